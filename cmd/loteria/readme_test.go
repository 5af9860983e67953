package main

import (
	"io"
	"net"
	"os"
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
)

// A server answers the messages in the README byte for byte as the README says.
func TestReadmeSaysHelloByHand(t *testing.T) {
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
	want := strings.ReplaceAll(strings.TrimPrefix(said[2], "    "), "\n    ", "\n")
	if string(answers) != want {
		t.Errorf("the server answers\n%s\nREADME.md says\n%s", answers, want)
	}
	if err := nc.Close(); err != nil {
		t.Error(err)
	}
	if code, err := server.wait(); code != exitDone || err != nil {
		t.Errorf("exit code %d, %v; it said:\n%s%s", code, err, server.stdout, server.stderr)
	}
}
