package compose

import (
	"path/filepath"
	"strings"
	"testing"

	"loteria/agency"
	"loteria/codec"
)

// A draw whose last report, winners and end all come between two scrapes is not taken for a server
// that went down, and Prometheus has its last numbers.
func TestPrometheusSeesTheEnd(t *testing.T) {
	t.Parallel() // it mostly waits
	prometheus := tool(t, "prometheus")
	dir := t.TempDir()
	program := build(t, dir)
	server, watched, prom := addrs(10)
	begin(t, dir, "server", []string{"SERVER_ADDR=" + server, "SERVER_HTTP_ADDR=" + watched, "SERVER_AGENCIES=2",
		"SERVER_EXIT_GRACE=1h", "SERVER_DATA_DIR=" + filepath.Join(dir, "data")}, program, "server")
	// The rules of a group are evaluated in their order: if the last one has seen that the server
	// doesn't answer, LoteriaDown has had to decide.
	const control = "      - {alert: NoAnswer, expr: up == 0}\n"
	beginPrometheus(t, dir, prometheus, watched, prom, readFile(t, "observability/rules.yml")+control)
	expect := func(query, want string) {
		t.Helper()
		if got := answer(t, prom, query, want); got != want {
			t.Fatalf("%s is %s, want %s\n%s", query, got, want, readFile(t, filepath.Join(dir, "server.log")))
		}
	}

	var clients []*agency.Client
	for id := range codec.Agency(2) {
		client, err := agency.Dial(t.Context(), server, id+1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() }) // it may be closed
		clients = append(clients, client)
		bets := strings.NewReader("Ana,Paz,12345678,1990-05-23,7574\r\n")
		if _, err := client.Upload(t.Context(), "bets", bets); err != nil {
			t.Fatal(err)
		}
	}
	expect(`loteria_agencies{state="uploading"}`, "2")

	done := make(chan error, len(clients))
	for _, client := range clients {
		go func() {
			_, err := client.Winners(t.Context())
			if err == nil {
				err = client.Confirm(t.Context())
			}
			if err == nil {
				err = client.Close()
			}
			done <- err
		}()
	}
	for range clients {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	expect(`ALERTS{alertname="NoAnswer", alertstate="firing"}`, "1")
	if got := ask(t.Context(), prom, `ALERTS{alertname="LoteriaDown"}`); got != "0 results" {
		t.Errorf("LoteriaDown is %s, and the draw is over", got)
	}
	expect(`last_over_time(loteria_agencies{state="served"}[5m])`, "2")
	expect(`last_over_time(loteria_winners[5m])`, "2")
	expect(`abs(time() - last_over_time(loteria_draw_timestamp_seconds[5m])) < bool 600`, "1")
}
