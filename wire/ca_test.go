package wire

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestIssue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	if err := InitCA(dir); err != nil {
		t.Fatal(err)
	}
	to, err := Issue(dir, "left", []string{"left.example.org", "192.0.2.7", "2001:db8::7"})
	if err != nil {
		t.Fatal(err)
	}
	if to != filepath.Join(dir, "left") {
		t.Errorf("made in %s", to)
	}
	for path, mode := range map[string]os.FileMode{
		"ca.crt": 0o644, "ca.key": 0o600, "left/ca.crt": 0o644, "left/node.crt": 0o644, "left/node.key": 0o600,
	} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm()&^mode != 0 {
			t.Errorf("%s: %v, want mode %v at most", path, info, mode)
		}
	}
	der, err := readPEM(filepath.Join(to, certFile))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"left", "left.example.org", "192.0.2.7", "2001:db8::7", "localhost", "127.0.0.1", "::1"} {
		if err := cert.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if err := cert.VerifyHostname("right"); err == nil {
		t.Error("the certificate is for any host")
	}
	if cert.IsCA || time.Until(cert.NotAfter) > nodeLife {
		t.Errorf("is a CA: %v, lasts until %v", cert.IsCA, cert.NotAfter)
	}
}

// Nothing that other nodes rest on is ever overwritten.
func TestNothingOverwritten(t *testing.T) {
	dir := t.TempDir()
	if err := InitCA(dir); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, caKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "init", InitCA(dir), dir, "there already")
	after, err := os.ReadFile(filepath.Join(dir, caKeyFile))
	if err != nil || string(after) != string(before) {
		t.Errorf("the CA's key changed (%v)", err)
	}
	if _, err := Issue(dir, "left", nil); err != nil {
		t.Fatal(err)
	}
	_, err = Issue(dir, "left", nil)
	wants(t, "issue", err, filepath.Join(dir, "left"), "there already")
}

func TestIssueRefuses(t *testing.T) {
	dir := t.TempDir()
	_, err := Issue(dir, "left", nil)
	wants(t, "without a CA", err, "standbyfs ca init")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if err := InitCA(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "/a", "../a"} {
		if to, err := Issue(dir, name, nil); err == nil {
			t.Errorf("a certificate for %q was made in %s", name, to)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, caFile), []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Issue(dir, "left", nil)
	wants(t, "damaged CA", err, caFile)
}

func TestLoadTLSRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := InitCA(dir); err != nil {
		t.Fatal(err)
	}
	to, err := Issue(dir, "left", nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Issue(dir, "right", nil)
	if err != nil {
		t.Fatal(err)
	}
	ca, cert, key := filepath.Join(to, caFile), filepath.Join(to, certFile), filepath.Join(to, keyFile)
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string][3]string{
		"no CA":         {filepath.Join(dir, "none"), cert, key},
		"empty CA":      {empty, cert, key},
		"no cert":       {ca, filepath.Join(dir, "none"), key},
		"another's key": {ca, cert, filepath.Join(other, keyFile)},
	} {
		_, err := LoadTLSFiles(files[0], files[1], files[2])
		if err == nil || !strings.Contains(err.Error(), "standbyfs ca ") {
			t.Errorf("%s: error %v does not name the command that helps", name, err)
		}
	}
	if _, err := LoadTLS(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there was read")
	}
}
