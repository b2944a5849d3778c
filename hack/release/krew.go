package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// What stands in the template for the version and for the sum of the archive in
// the line before it.
const (
	versionPlaceholder = "0.0.0"
	sumPlaceholder     = "0000000000000000000000000000000000000000000000000000000000000000"
)

// krewManifest is the template with the version that goreleaser has built in
// dist, and the checksums of its archives. Each archive must be in the manifest.
func krewManifest(template, dist string) (string, error) {
	content, err := os.ReadFile(template)
	if err != nil {
		return "", err
	}
	version, err := builtVersion(dist)
	if err != nil {
		return "", err
	}
	archives, err := archivesIn(dist)
	if err != nil {
		return "", err
	}
	var manifest strings.Builder
	var archive string
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "#") {
			continue // about the template
		}
		line = strings.ReplaceAll(line, versionPlaceholder, version)
		if _, uri, ok := strings.Cut(line, " uri: "); ok {
			archive = path.Base(strings.TrimSpace(uri))
			archives = slices.DeleteFunc(archives, func(name string) bool { return name == archive })
		}
		if strings.Contains(line, sumPlaceholder) {
			sum, err := sha256sum(filepath.Join(dist, archive))
			if err != nil {
				return "", fmt.Errorf("%s names an archive that was not built: %w", template, err)
			}
			line = strings.Replace(line, sumPlaceholder, sum, 1)
		}
		manifest.WriteString(line)
	}
	if len(archives) > 0 {
		return "", fmt.Errorf("add to %s what .goreleaser.yaml builds: %s", template, strings.Join(archives, ", "))
	}
	return manifest.String(), nil
}

// builtVersion is the version in dist, without the leading v.
func builtVersion(dist string) (string, error) {
	content, err := os.ReadFile(filepath.Join(dist, "metadata.json"))
	if err != nil {
		return "", fmt.Errorf("%s holds no build: run `make snapshot`: %w", dist, err)
	}
	var metadata struct{ Version string }
	if err := json.Unmarshal(content, &metadata); err != nil {
		return "", fmt.Errorf("read goreleaser's metadata.json: %w", err)
	}
	if metadata.Version == "" {
		return "", errors.New("read goreleaser's metadata.json: it names no version")
	}
	return metadata.Version, nil
}

func archivesIn(dist string) ([]string, error) {
	entries, err := os.ReadDir(dist)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if name := entry.Name(); strings.HasSuffix(name, ".tar.gz") || strings.HasSuffix(name, ".zip") {
			names = append(names, name)
		}
	}
	return names, nil
}

func sha256sum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}
