package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"loteria/engine/admin"
)

const dashboard = "observability/grafana/dashboards/loteria.json"

// The alerts and the dashboard use only metrics that a server has. Otherwise an alert never fires.
func TestExpressionsNameExportedMetrics(t *testing.T) {
	exported, err := admin.MetricNames()
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\b(loteria|go|process)_[a-z0-9_]+\b`)
	for _, file := range []string{"observability/rules.yml", "observability/rules_test.yml", dashboard} {
		used := name.FindAllString(readFile(t, file), -1)
		if len(used) == 0 {
			t.Errorf("%s uses no metric", file)
		}
		for _, metric := range slices.Compact(slices.Sorted(slices.Values(used))) {
			if !slices.Contains(exported, metric) {
				t.Errorf("%s uses %s, which no server exports", file, metric)
			}
		}
	}
}

// Every panel that shows something asks the data source that is provisioned.
func TestDashboard(t *testing.T) {
	var d struct {
		Panels []struct {
			Title, Type string
			Datasource  struct{ UID string }
			Targets     []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, dashboard)), &d); err != nil {
		t.Fatal(err)
	}
	source := readFile(t, "observability/grafana/provisioning/datasources/prometheus.yml")
	shown := 0
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		shown++
		if len(p.Targets) == 0 || p.Datasource.UID == "" || !strings.Contains(source, "uid: "+p.Datasource.UID+" ") {
			t.Errorf("panel %q: %d targets, data source %q", p.Title, len(p.Targets), p.Datasource.UID)
		}
		for _, target := range p.Targets {
			if !strings.Contains(target.Expr, "loteria") {
				t.Errorf("panel %q asks for %q", p.Title, target.Expr)
			}
		}
	}
	if shown == 0 {
		t.Error("the dashboard is empty")
	}
}

// tool is the path of a program of Prometheus. Without it the test is skipped, unless
// LOTERIA_PROMETHEUS=1 says that it has to be there.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("LOTERIA_PROMETHEUS") == "1":
		t.Fatal(err)
	default:
		t.Skipf("NOT TESTED: %v: .ci/run fetches it from Debian's package prometheus", err)
	}
	return ""
}

func TestRules(t *testing.T) {
	t.Parallel()
	promtool := tool(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"check", "config", "prometheus.yml"}, {"test", "rules", "rules_test.yml", "rules_days_test.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = "observability"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Prometheus's own parser takes the dashboard's expressions.
func TestDashboardsExpressionsAreValid(t *testing.T) {
	promtool := tool(t, "promtool")
	var d struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal([]byte(readFile(t, dashboard)), &d); err != nil {
		t.Fatal(err)
	}
	rules, count := "groups:\n- name: dashboard\n  rules:\n", 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			count++
			expression := strings.ReplaceAll(target.Expr, "$__rate_interval", "4s")
			rules += fmt.Sprintf("  - {record: 'panel:%d', expr: %q}\n", count, expression)
		}
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	writeFile(t, file, rules, 0o644)
	out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", file).CombinedOutput()
	if want := fmt.Sprintf("%d rules found", count); err != nil || count == 0 || !strings.Contains(string(out), want) {
		t.Errorf("promtool check rules: %v, want %s\n%s", err, want, out)
	}
}

// A real Prometheus scrapes a real server in the middle of a draw, and answers what has happened.
func TestPrometheusScrapes(t *testing.T) {
	t.Parallel()
	prometheus := tool(t, "prometheus")
	dir := t.TempDir()
	program := build(t, dir)
	server, watched, prom := addrs(9)
	// Two of the three agencies of the draw come, so it goes on for as long as it has to be watched.
	settings := []string{"SERVER_ADDR=" + server, "SERVER_HTTP_ADDR=" + watched, "SERVER_AGENCIES=3",
		"SERVER_EXIT_GRACE=1h", "SERVER_DATA_DIR=" + filepath.Join(dir, "data"), "AGENCY_SERVER=" + server, "AGENCY_BETS=../testdata/dataset.zip"}
	begin(t, dir, "server", settings, program, "server")
	begin(t, dir, "agency2", append(settings, "AGENCY_ID=2"), program, "agency")
	begin(t, dir, "agency3", append(settings, "AGENCY_ID=3"), program, "agency")

	beginPrometheus(t, dir, prometheus, watched, prom, "groups: []\n")

	host, _, _ := strings.Cut(watched, ":")
	bets := strings.Count(bundled(t, 2), "\n") + strings.Count(bundled(t, 3), "\n")
	for query, want := range map[string]string{
		`loteria_bets_stored_total`:                             fmt.Sprint(bets),
		`sum(loteria_agencies{state=~"reported|waiting"})`:      "3",
		`loteria_agencies{state="reported"}`:                    "2",
		`loteria_queue_limit_bytes - loteria_queue_bytes`:       "8388608",
		`up{job="loteria", instance="` + host + `"}`:            "1",
		`loteria_ledger_commit_duration_seconds_count > bool 0`: "1",
	} {
		if got := answer(t, prom, query, want); got != want {
			t.Errorf("%s is %s, want %s\n%s", query, got, want, readFile(t, filepath.Join(dir, "server.log")))
		}
	}
}

// build builds the program in dir.
func build(t *testing.T, dir string) (program string) {
	t.Helper()
	program = filepath.Join(dir, "loteria")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/loteria").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// addrs are free addresses for a server, those who watch it, and Prometheus. Each test has a number.
func addrs(number int) (server, watched, prom string) {
	pid := os.Getpid()
	host := fmt.Sprintf("127.%d.%d.%d", 64+pid>>8&63, pid&255, number)
	return host + ":4123", host + ":4124", host + ":4125"
}

// beginPrometheus starts a Prometheus at prom, configured as here, but with these rules, which it
// evaluates each second. It scrapes what listens on watched.
func beginPrometheus(t *testing.T, dir, prometheus, watched, prom, rules string) {
	t.Helper()
	config := strings.Replace(readFile(t, "observability/prometheus.yml"), "evaluation_interval: 5s", "evaluation_interval: 1s", 1)
	for name, content := range map[string]string{
		"prometheus.yml": config, "rules.yml": rules,
		"targets.yml": fmt.Sprintf("- targets: [%q]\n", watched),
	} {
		writeFile(t, filepath.Join(dir, name), content, 0o644)
	}
	begin(t, dir, "prometheus", nil, prometheus, "--config.file", filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path", filepath.Join(dir, "tsdb"), "--web.listen-address", prom)
}

// begin starts a program that is killed at the end of the test. Its output goes to dir.
func begin(t *testing.T, dir, name string, settings []string, program string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), settings...), log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		_ = log.Close()
	})
}

// answer asks a Prometheus until it gives the answer that is wanted, or a minute has passed. It
// returns the last answer.
func answer(t *testing.T, addr, query, want string) (got string) {
	t.Helper()
	const patience = time.Minute // a scrape takes a second, and a start a few
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		if got = ask(ctx, addr, query); got == want {
			return got
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return got
		}
	}
}

func ask(ctx context.Context, addr, query string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/v1/query?query="+url.QueryEscape(query), nil)
	if err != nil {
		return err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error() // it may not listen yet
	}
	defer response.Body.Close()
	var a struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		return err.Error()
	}
	if len(a.Data.Result) != 1 {
		return fmt.Sprintf("%d results", len(a.Data.Result))
	}
	return fmt.Sprint(a.Data.Result[0].Value[1])
}
