package main

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	// handSection matches the README's section in which printf is an agency, handServer its
	// server's variables, and handAgency the messages and the answers.
	handSection = regexp.MustCompile(`(?ms)^## Say hello by hand$.*?^## `)
	handServer  = regexp.MustCompile(`(?m)^    \$ ([A-Z_]+=.*) \./loteria server &$`)
	handAgency  = regexp.MustCompile(`(?ms)^    \$ printf '%b' (.*?) \| nc localhost 12345\n(.*?)\n\n`)
	handFrame   = regexp.MustCompile(`'([^']*)'`)

	// tlsSection matches the README's section in which openssl is an agency, tlsServer its server's
	// variables, and tlsAgency the messages, openssl's arguments and the answers.
	tlsSection = regexp.MustCompile(`(?ms)^## TLS$.*?^## `)
	tlsServer  = regexp.MustCompile(`(?m)^    \$ (?:export )?([A-Z_]+=.*?)(?: \./loteria server &)?$`)
	tlsCerts   = regexp.MustCompile(`(?m)^    \$ \./loteria (certs .*)$`)
	tlsAgency  = regexp.MustCompile(`(?ms)^    \$ printf '%b' (.*?) \|\n +openssl (s_client .*? -verify_return_error)\n(.*?)\n\n`)
)

// readmeText is an example in the README without its indentation.
func readmeText(text string) string {
	return strings.ReplaceAll(strings.TrimPrefix(text, "    "), "\n    ", "\n")
}

// A server takes the certificates and the agency in the README, and openssl prints what the README
// says.
func TestReadmeSaysHelloOverTLS(t *testing.T) {
	t.Parallel()
	if version, err := exec.Command("openssl", "version").Output(); err != nil || !strings.HasPrefix(string(version), "OpenSSL ") {
		t.Skipf("NOT TESTED: the agency in README.md needs OpenSSL on the PATH: %q, %v", version, err)
	}
	section := tlsSection.FindString(readText(t, "../../README.md"))
	certs, settings, said := tlsCerts.FindStringSubmatch(section), tlsServer.FindAllStringSubmatch(section, -1), tlsAgency.FindStringSubmatch(section)
	if certs == nil || len(settings) != 3 || said == nil {
		t.Fatalf("README.md: the section doesn't look as this test expects it: %q %q %q", certs, settings, said)
	}
	dir := t.TempDir()
	maker, err := startLoteria(dir, certs[1])
	if err != nil {
		t.Fatal(err)
	}
	if code, err := maker.wait(); code != exitDone || err != nil {
		t.Fatalf("loteria %s: exit code %d, %v; it said:\n%s", certs[1], code, err, maker.stderr)
	}
	var environment []string
	for _, line := range settings {
		environment = append(environment, strings.Fields(strings.Replace(line[1], "$(mktemp -d)", "data", 1))...)
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("localhost", strconv.Itoa(port))
	environment = append(environment, "SERVER_ADDR=localhost:0", "SERVER_TLS_ADDR="+addr, "LOG_LEVEL=info")
	server, err := startLoteria(dir, "server", environment...)
	if err != nil {
		t.Fatal(err)
	}
	defer server.kill()
	if err := server.stdout.await(regexp.MustCompile(`action: tls \| result: in_progress`), 1, server.ended); err != nil {
		t.Fatalf("%v; it said:\n%s", err, server.stdout)
	}

	var frames strings.Builder
	for _, frame := range handFrame.FindAllStringSubmatch(said[1], -1) {
		frames.WriteString(strings.ReplaceAll(frame[1], `\n`, "\n"))
	}
	arguments := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(said[2], "\\\n", " "), "localhost:12443", addr))
	ctx, cancel := context.WithTimeout(t.Context(), eventTimeout)
	defer cancel()
	openssl := exec.CommandContext(ctx, "openssl", arguments...)
	var complains strings.Builder
	openssl.Dir, openssl.Stdin, openssl.Stderr = dir, strings.NewReader(frames.String()), &complains
	answers, err := openssl.Output()
	if want := readmeText(said[3]); err != nil || string(answers) != want {
		t.Errorf("openssl prints\n%s\nREADME.md says\n%s\n%v: %s", answers, want, err, complains.String())
	}
	if code, err := server.wait(); code != exitDone || err != nil {
		t.Errorf("exit code %d, %v; it said:\n%s%s", code, err, server.stdout, server.stderr)
	}
}

// A server answers the messages in the README byte for byte as the README says.
func TestReadmeSaysHelloByHand(t *testing.T) {
	t.Parallel()
	section := handSection.FindString(readText(t, "../../README.md"))
	settings, said := handServer.FindStringSubmatch(section), handAgency.FindStringSubmatch(section)
	if settings == nil || said == nil {
		t.Fatal("README.md: the section doesn't look as this test expects it")
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("localhost", strconv.Itoa(port))
	environment := strings.Fields(strings.Replace(settings[1], "$(mktemp -d)", t.TempDir(), 1))
	// Later variables override earlier ones. The test waits for a log line of the level info.
	environment = append(environment, "SERVER_ADDR="+addr, "LOG_LEVEL=info")
	server, err := startLoteria(t.TempDir(), "server", environment...)
	if err != nil {
		t.Fatal(err)
	}
	defer server.kill()
	listening := regexp.MustCompile(`action: accept_connections \| result: in_progress`)
	if err := server.stdout.await(listening, 1, server.ended); err != nil {
		t.Fatalf("%v; it said:\n%s", err, server.stdout)
	}

	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(eventTimeout)); err != nil {
		t.Fatal(err)
	}
	var frames strings.Builder
	for _, frame := range handFrame.FindAllStringSubmatch(said[1], -1) {
		frames.WriteString(strings.ReplaceAll(frame[1], `\n`, "\n"))
	}
	if _, err := io.WriteString(nc, frames.String()); err != nil {
		t.Fatal(err)
	}
	answers, err := io.ReadAll(nc)
	if err != nil {
		t.Fatal(err)
	}
	if want := readmeText(said[2]); string(answers) != want {
		t.Errorf("the server answers\n%s\nREADME.md says\n%s", answers, want)
	}
	if err := nc.Close(); err != nil {
		t.Error(err)
	}
	if code, err := server.wait(); code != exitDone || err != nil {
		t.Errorf("exit code %d, %v; it said:\n%s%s", code, err, server.stdout, server.stderr)
	}
}
