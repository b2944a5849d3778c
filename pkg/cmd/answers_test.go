package cmd_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

// TestRedirectsAreNotFollowed has a server lead each request elsewhere: nothing
// may go there, and nothing be said to be done.
func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		for name, args := range map[string][]string{
			http.MethodPost:   {"create", given},
			http.MethodPatch:  {"extend", "aaaaaa", "--ttl", "48h"},
			http.MethodDelete: {"delete", "aaaaaa"},
			http.MethodGet:    {"list"},
		} {
			t.Run(fmt.Sprint(name, " ", code), func(t *testing.T) {
				elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					t.Errorf("%s %s is asked of the other server", r.Method, r.URL.Path)
				}))
				defer elsewhere.Close()
				c := newCluster(t)
				c.put("aaaaaa", nil)
				c.Handle(func(w http.ResponseWriter, r *http.Request, req apitest.Request) bool {
					if req.Method != name || !strings.HasPrefix(req.Path, apitest.SecretsPath) {
						return false
					}
					http.Redirect(w, r, elsewhere.URL+"/secret?path=1", code)
					return true
				})
				got := c.run(t, args...)
				got.wants(t, 1, "", "Error from server: the request is redirected to "+elsewhere.URL+", as no Kubernetes API does: set the API server's own address (--server)")
				got.hides(t, secretPart)
				c.holds(t, "aaaaaa")
			})
		}
	}
}

func TestATokenThatFinalizersKeepIsNotDeleted(t *testing.T) {
	c := newCluster(t)
	c.put("aaaaaa", func(secret *corev1.Secret) { secret.Finalizers = []string{"example.com/one", "example.com/two"} })
	c.put("bbbbbb", nil)
	got := c.run(t, "delete", "--all", "--yes")
	got.wants(t, 1, `bootstrap token "bbbbbb" deleted`, `Error from server: secrets "bootstrap-token-aaaaaa" is marked for deletion, and stays until its finalizers are removed: example.com/one example.com/two`)
	if strings.Contains(got.out, "aaaaaa") {
		t.Error("it is said to be deleted")
	}
	c.holds(t, "aaaaaa")
	c.run(t, "extend", "aaaaaa", "--ttl", "2h").wants(t, 0, `bootstrap token "aaaaaa" expires at`, `Warning: token "aaaaaa" cannot be used: the Secret is being deleted`)
}

// TestExtendReadsTheAnswer has a server, or what stands before it, answer with
// what was not asked for.
func TestExtendReadsTheAnswer(t *testing.T) {
	for name, change := range map[string]func(*corev1.Secret){
		"another Secret": func(secret *corev1.Secret) { secret.Name = "something" },
		"another expiry": func(secret *corev1.Secret) { secret.Data["expiration"] = []byte("2031-01-01T00:00:00Z") },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.put("aaaaaa", nil)
			c.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
				if req.Method != http.MethodPatch {
					return false
				}
				secret := c.Secret("bootstrap-token-aaaaaa").DeepCopy()
				change(secret)
				apitest.Reply(w, req, http.StatusOK, secret)
				return true
			})
			c.run(t, "extend", "aaaaaa", "--ttl", "48h").wants(t, 1, "", "the server answers with a Secret that does not have the expiry asked for")
		})
	}
}

// TestAnErrorThatQuotesTheRequest has servers and webhooks say in their errors
// what they were sent.
func TestAnErrorThatQuotesTheRequest(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte(secretPart))
	for name, message := range map[string]string{
		"the token":             "denied: " + given,
		"at the end":            "denied: " + given + ".",
		"the data":              `denied: {"data":{"token-id":"YWJjZGVm","token-secret":"` + encoded + `"}}`,
		"the data as text":      "denied: token-secret: " + secretPart + ", and more",
		"the data as Go has it": "denied: map[token-secret:" + fmt.Sprintf("%d", []byte(secretPart)) + "]",
		"protobuf":              "denied: \x0a\x0ctoken-secret\x12\x10" + secretPart + "\x12",
		"a join token":          "denied: K10" + strings.Repeat("ab", 32) + "::" + given,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
				if req.Method != http.MethodPost || req.Path != apitest.SecretsPath {
					return false
				}
				w.Header().Set("Warning", `299 - "a webhook has seen `+given+`"`)
				apitest.Fail(w, req, apierrors.NewBadRequest(message))
				return true
			})
			got := c.run(t, "create", given)
			got.wants(t, 1, "", "denied")
			got.hides(t, secretPart)
			got.hides(t, encoded)
			got.hides(t, fmt.Sprintf("%d", []byte(secretPart)))
		})
	}
}

func TestATokenInAnotherArgumentIsHidden(t *testing.T) {
	for _, args := range [][]string{
		{"create", "--ttl", given + " "},
		{"create", "--groups", given + ",foo"},
		{"create", "--usages", "signing," + given},
		{"create", "--ca-file", "/nowhere/" + given},
		{"rotate", "--token-file", "./" + given, "--yes"},
		{"list", "--kubeconfig", "/nowhere/" + given},
		{"list", "--context", "'" + given + "'"},
		{"list", "-o", given},
	} {
		got := offline(t, args...)
		if got.code != 1 || got.stderr == "" {
			t.Errorf("%v: exit code %d", args[:2], got.code)
		}
		got.hides(t, secretPart)
	}
}

func TestAnAddressIsShownWithoutItsPassword(t *testing.T) {
	c := newCluster(t)
	c.put("aaaaaa", nil)
	c.writeKubeconfig(t, func(config *clientcmdapi.Cluster) {
		config.Server = strings.Replace(c.URL, "://", "://admin:"+secretPart+"@", 1)
		config.CertificateAuthorityData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})
	})
	got := call{cluster: c, args: []string{"delete", "--all", "-v=9"}, stdin: "n\n"}.run(t)
	if !strings.Contains(got.stderr, "<not shown>@127.0.0.1") {
		t.Errorf("the address is not shown:\n%s", mask(got.stderr))
	}
	got.hides(t, secretPart)
}

func TestCookiesAreNotLogged(t *testing.T) {
	c := newCluster(t)
	c.Handle(func(w http.ResponseWriter, _ *http.Request, _ apitest.Request) bool {
		w.Header().Set("Set-Cookie", "session="+secretPart)
		w.Header().Set("X-Harmless", "shown")
		return false
	})
	got := c.run(t, "list", "-v=9")
	got.hides(t, secretPart)
	if !strings.Contains(got.stderr, "X-Harmless: shown") || !strings.Contains(got.stderr, "Set-Cookie: <not shown>") {
		t.Errorf("the headers are not shown:\n%s", mask(got.stderr))
	}
}

func TestRetryAfterIsObeyedWithinBounds(t *testing.T) {
	date := func(at time.Time) string { return at.UTC().Format(http.TimeFormat) }
	for name, test := range map[string]struct {
		after, date string
		again       bool
	}{
		"none":                              {"", "", false},
		"seconds":                           {"1", "", true},
		"a time":                            {date(now.Add(time.Second)), date(now), true},
		"a time that is over":               {date(now.Add(-time.Hour)), date(now), true},
		"a time by a clock that is wrong":   {date(now.Add(48 * time.Hour)), date(now.Add(48 * time.Hour)), true},
		"a time without the server's clock": {date(now), "", true},
		"a day":                             {"86400", "", false},
		"tomorrow":                          {date(now.Add(24 * time.Hour)), date(now), false},
		"words":                             {"soon", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			requests := 0
			c.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
				if req.Method != http.MethodGet || req.Path != apitest.SecretsPath {
					return false
				}
				if requests++; requests > 1 {
					return false
				}
				if test.after != "" {
					w.Header().Set("Retry-After", test.after)
				}
				if w.Header()["Date"] = nil; test.date != "" {
					w.Header().Set("Date", test.date)
				}
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			})
			start := time.Now()
			got := c.run(t, "list")
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
			if again := requests == 2; again != test.again || got.code == 0 != test.again {
				t.Errorf("%d requests, exit code %d; stderr: %s", requests, got.code, got.stderr)
			}
		})
	}
}

// TestALoginThatHasExpired says what the API server leaves out.
func TestALoginThatHasExpired(t *testing.T) {
	for name, test := range map[string]struct {
		end  time.Time
		want bool
	}{
		"expired": {now.Add(-24 * time.Hour), true}, "valid": {now.Add(24 * time.Hour), false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
				apitest.Fail(w, req, apierrors.NewUnauthorized("Unauthorized"))
				return true
			})
			config, err := clientcmd.LoadFromFile(c.kubeconfig)
			if err != nil {
				t.Fatal(err)
			}
			user := config.AuthInfos["test"]
			user.Token = ""
			user.ClientCertificateData, user.ClientKeyData = selfSigned(t, test.end)
			if err := clientcmd.WriteToFile(*config, c.kubeconfig); err != nil {
				t.Fatal(err)
			}
			got := c.run(t, "create", "--count", "3")
			got.wants(t, 1, "", "error: You must be logged in to the server (Unauthorized)")
			const hint = "Warning: the client certificate of the kubeconfig has expired on 2025-05-31T12:00:00Z: get a new kubeconfig from the server"
			if said := strings.Count(got.stderr, hint); said != map[bool]int{true: 1}[test.want] {
				t.Errorf("it is said %d times:\n%s", said, got.stderr)
			}
		})
	}
}

// selfSigned returns a client certificate until that time, and its key.
func selfSigned(t *testing.T, end time.Time) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	var buffer bytes.Buffer
	if err := pem.Encode(&buffer, &pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), buffer.Bytes()
}
