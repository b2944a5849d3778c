package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// The least that a program can do for the same work: the bare requests over
// net/http, no client library, nothing parsed that need not be. It is a process
// of its own, so that start and TLS handshake count for it as well.

const secrets = "/api/v1/namespaces/kube-system/secrets"

type rawClient struct {
	base string
	http *http.Client
}

func raw(args []string) error {
	if args[0] == "nothing" {
		return nil
	}
	client, err := newRawClient(os.Getenv("BENCH_URL"), os.Getenv("BENCH_TLS"))
	if err != nil {
		return err
	}
	switch args[0] {
	case "list":
		return client.do(http.MethodGet, secrets+tokensOnly(), nil, io.Discard)
	case "create":
		count, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		if err := client.do(http.MethodGet, "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt", nil, io.Discard); err != nil {
			return err
		}
		return parallel(count, func(int) error { return client.create(randomID()) })
	case "create-named":
		return client.create([]byte(args[1]))
	case "delete":
		return client.deleteAll()
	}
	return fmt.Errorf("unknown work %q", args[0])
}

func newRawClient(base, tlsDir string) (*rawClient, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(tlsDir, "client-admin.crt"), filepath.Join(tlsDir, "client-admin.key"))
	if err != nil {
		return nil, err
	}
	bundle, err := os.ReadFile(filepath.Join(tlsDir, "server-ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return nil, errors.New("no CA certificate")
	}
	return &rawClient{base: base, http: &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
		// The quickest of all answers: the plugin asks for none either.
		DisableCompression: true,
	}}}, nil
}

func tokensOnly() string {
	return "?fieldSelector=" + url.QueryEscape("type=bootstrap.kubernetes.io/token")
}

// do sends a request and copies the answer to out.
func (c *rawClient) do(method, path string, body []byte, out io.Writer) error {
	request, err := http.NewRequest(method, c.base+path, bytes.NewReader(body)) //nolint:noctx // a process of its own ends with it
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/vnd.kubernetes.protobuf")
	if method == http.MethodGet && out != io.Discard {
		request.Header.Set("Accept", "application/json")
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	return nil
}

func randomID() []byte {
	id := make([]byte, 6)
	for i := range id {
		id[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[rand.IntN(36)]
	}
	return id
}

func (c *rawClient) create(id []byte) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
		"metadata": map[string]any{"name": "bootstrap-token-" + string(id)},
		"data": map[string][]byte{
			"token-id": id, "token-secret": []byte("0123456789abcdef"),
			"expiration":                     []byte(time.Now().Add(time.Hour).UTC().Format(time.RFC3339)),
			"usage-bootstrap-authentication": []byte("true"), "usage-bootstrap-signing": []byte("true"),
			"auth-extra-groups": []byte("system:bootstrappers:k3s:default-node-token"),
		},
	})
	if err != nil {
		return err
	}
	return c.do(http.MethodPost, secrets, body, io.Discard)
}

func (c *rawClient) deleteAll() error {
	var answer bytes.Buffer
	if err := c.do(http.MethodGet, secrets+tokensOnly(), nil, &answer); err != nil {
		return err
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		} `json:"items"`
	}
	if err := json.Unmarshal(answer.Bytes(), &list); err != nil {
		return err
	}
	return parallel(len(list.Items), func(i int) error {
		return c.do(http.MethodDelete, secrets+"/"+list.Items[i].Metadata.Name, nil, io.Discard)
	})
}

// parallel calls do for 0 to n-1, 32 at a time.
func parallel(n int, do func(i int) error) error {
	errs := make([]error, n)
	work := make(chan int)
	var workers sync.WaitGroup
	for range min(n, 32) {
		workers.Go(func() {
			for i := range work {
				errs[i] = do(i)
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	workers.Wait()
	return errors.Join(errs...)
}
