package compose

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"loteria/agency/dataset"
)

// TestDraw runs draws in real containers. Its parts share a checkout and an image; each begins
// without a ledger.
func TestDraw(t *testing.T) {
	requireDocker(t)
	root := checkout(t)
	taken, err := exec.CommandContext(t.Context(), "docker", "ps", "--all",
		"--format", `{{.Label "com.docker.compose.project"}} {{.Names}}`).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(taken)) {
		owner, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if owner != project && slices.Contains(slices.Concat(containers(1, 40), containers(9, 0), []string{"certs"}), name) {
			t.Fatalf("there is a container named %s, and names are fixed: "+
				"end that draw first (docker compose down)", name)
		}
	}

	t.Run("fresh clone", func(t *testing.T) { testFreshClone(t, root) })
	if t.Failed() {
		return // there is probably no image, and the other parts would fail for the same reason
	}
	t.Run("more and fewer agencies", func(t *testing.T) { testNumberOfAgencies(t, root) })
	t.Run("broken in the middle", func(t *testing.T) { testBrokenInTheMiddle(t, root) })
	t.Run("stop and go on", func(t *testing.T) { testStopAndGoOn(t, root) })
	t.Run("secrets", func(t *testing.T) { testSecrets(t, root) })
	t.Run("tls", func(t *testing.T) { testTLS(t, root) })
	t.Run("board", func(t *testing.T) { testBoard(t, root) })
	t.Run("several servers", func(t *testing.T) { testSeveralServers(t, root) })
	t.Run("killed leader", func(t *testing.T) { testKilledLeader(t, root) })
	t.Run("configuration error", func(t *testing.T) { testConfigurationError(t, root) })
	t.Run("docker-compose 1.29", func(t *testing.T) { testOldCompose(t, root) })
}

// The checked-in file runs a draw with one command, without unpacked bets.
func testFreshClone(t *testing.T, root string) {
	s := newStack(t, root, checkedIn)
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	out, err := s.run(ctx, "up", "--build")
	if err != nil {
		t.Fatalf("docker compose up --build: %v\n%s", err, tail(out))
	}
	checkLines(t, out)
	checkExits(t, out, containers(1, 5))
	checkBets(t, s, root, 5)
	checkImage(t)

	server := docker(t, "logs", "server")
	const draw = "action: sorteo | result: success | apuestas: 78697 | cant_ganadores: 10"
	if n := strings.Count(server, draw); n != 1 {
		t.Errorf("the draw's line is there %d times\n%s", n, tail(server))
	}
	for _, line := range []string{"solicitud", "ip: 127.0.0.1", "ip: ::1"} {
		if strings.Contains(server, line) {
			t.Errorf("health checks are logged: %q", line)
		}
	}

	// The files that the draw leaves can be copied out of the ended container.
	docker(t, "cp", "server:/data/agencies-5/winners.csv", root)
	got, want := readFile(t, filepath.Join(root, "winners.csv")), s.export("--winners")
	if !strings.HasSuffix(got, want) || len(rows(t, want)) != 10 {
		t.Errorf("winners.csv holds\n%sand export prints\n%s", got, want)
	}

	// After the draw, another start serves the agencies again.
	checkExits(t, s.up(), containers(1, 5))
	if again := docker(t, "logs", "server"); strings.Count(again, "action: sorteo") != 1 {
		t.Error("drawn twice")
	}
}

// checkImage checks the image's size, user and title.
func checkImage(t *testing.T) {
	t.Helper()
	const bytesMax = 24 << 20
	size, err := strconv.Atoi(docker(t, "image", "inspect", "--format", "{{.Size}}", "loteria"))
	if err != nil || size > bytesMax {
		t.Errorf("the image has %d bytes, want at most %d (%v)", size, bytesMax, err)
	}
	for format, want := range map[string]string{
		"{{.Config.User}}": "65532:65532",
		`{{index .Config.Labels "org.opencontainers.image.title"}}`: "loteria",
	} {
		if got := docker(t, "image", "inspect", "--format", format, "loteria"); got != want {
			t.Errorf("%s of the image is %q, want %q", format, got, want)
		}
	}
}

// checkBets compares the ledger with the agencies' files: it must have all the bets of each agency
// once, in their order.
func checkBets(t *testing.T, s *stack, root string, agencies int) {
	t.Helper()
	stored := make([][]string, agencies+1)
	for _, row := range rows(t, s.export()) {
		id, err := strconv.Atoi(row[0])
		if err != nil || id < 1 || id > agencies {
			t.Fatalf("a bet of agency %q", row[0])
		}
		stored[id] = append(stored[id], strings.Join(row[1:], ","))
	}
	for id := 1; id <= agencies; id++ {
		bets, name, err := dataset.OpenFirst([]string{
			filepath.Join(root, ".data"),
			filepath.Join(root, "testdata", "dataset.zip"),
		}, id)
		if err != nil {
			t.Fatal(err)
		}
		file, err := csv.NewReader(bets).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if err := bets.Close(); err != nil {
			t.Fatal(err)
		}
		want := make([]string, 0, len(file))
		for _, row := range file {
			want = append(want, strings.Join(row, ","))
		}
		if len(want) == 0 || !slices.Equal(stored[id], want) {
			t.Errorf("agency %d: the %d stored bets are not the %d of %s",
				id, len(stored[id]), len(want), name)
		}
	}
}

func rows(t *testing.T, text string) [][]string {
	t.Helper()
	all, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Compose files for 40, 5 and 1 agencies under the same name, one after the other. A container that
// the new file doesn't have is an orphan of the old one.
func testNumberOfAgencies(t *testing.T, root string) {
	const file = "docker-compose-dev.yaml"
	generateFile := func(n int) {
		t.Helper()
		if code, said := generate(t, root, nil, file, strconv.Itoa(n)); code != 0 {
			t.Fatalf("./generar-compose.sh %s %d: exit code %d\n%s", file, n, code, tail(said))
		}
	}
	generateFile(40)
	s := newStack(t, root, file)
	for _, n := range []int{40, 5, 1} {
		generateFile(n)
		out := s.up("--remove-orphans")
		checkExits(t, out, containers(1, n))
		checkBets(t, s, root, n)
	}
	for id := 1; id <= 5; id++ {
		if readFile(t, filepath.Join(root, ".data", dataset.FileName(id))) != bundled(t, id) {
			t.Errorf("agency %d has other bets than the dataset's", id)
		}
	}

	// Without a program that unpacks, the image makes the same files.
	if err := os.RemoveAll(filepath.Join(root, ".data", dataset.FileName(5))); err != nil {
		t.Fatal(err)
	}
	tools := onlyTools(t, append([]string{"docker"}, withoutUnpacker...)...)
	if code, said := generate(t, root, []string{tools}, file, "5"); code != 0 {
		t.Fatalf("without unzip: exit code %d\n%s", code, tail(said))
	}
	if readFile(t, filepath.Join(root, ".data", dataset.FileName(5))) != bundled(t, 5) {
		t.Error("without unzip: agency 5 has other bets than the dataset's")
	}
}

// slow makes an upload last long enough to be broken in the middle: one small batch at a time, each
// with a sync of its own.
var slow = []string{"AGENCY_BATCH_BETS=3", "AGENCY_WINDOW=1"}

// In the middle of the uploads an agency is killed, the server is killed, and an agency loses its
// network. Still, every bet is stored once.
func testBrokenInTheMiddle(t *testing.T, root string) {
	s := newStack(t, root, checkedIn, slow...)
	s.must("up", "--detach")

	const acked = "action: apuesta_enviada | result: success"
	uploading := func(name string) {
		t.Helper()
		if log := docker(t, "logs", name); strings.Contains(log, "action: consulta_ganadores") {
			t.Fatalf("%s has already uploaded everything: this is not the middle\n%s",
				name, tail(log))
		}
	}
	resumed := func(id, times int) {
		t.Helper()
		server := docker(t, "logs", "server")
		welcome := fmt.Sprintf("action: hello | result: success | agencia: %d | apuestas: ", id)
		if n := strings.Count(server, welcome) - strings.Count(server, welcome+"0\n"); n < times {
			t.Errorf("agency %d was told %d times where to go on, want %d", id, n, times)
		}
	}

	awaitLog(t, "client3", acked, 100)
	docker(t, "kill", "--signal", "KILL", "client3")
	uploading("client3")
	docker(t, "start", "client3")
	// The line has to be in the log before the server is killed.
	awaitLog(t, "server", "action: hello | result: success | agencia: 3 ", 2)

	awaitLog(t, "client1", acked, 300)
	docker(t, "kill", "--signal", "KILL", "server")
	uploading("client1")
	docker(t, "start", "server")
	awaitLog(t, "server", "action: hello | result: success | agencia: 2 ", 2)

	const network = project + "_loteria"
	const cut = 20 * time.Second
	docker(t, "network", "disconnect", network, "client2")
	uploading("client2")
	select {
	case <-time.After(cut):
	case <-t.Context().Done():
	}
	docker(t, "network", "connect", network, "client2")

	for _, name := range containers(1, 5) {
		if code := exitCode(t, name); code != 0 {
			t.Errorf("%s ended with exit code %d\n%s", name, code, tail(docker(t, "logs", name)))
		}
		checkLines(t, docker(t, "logs", name))
	}
	checkBets(t, s, root, 5)
	if winners := rows(t, s.export("--winners")); len(winners) != 10 {
		t.Errorf("%d winners, want 10", len(winners))
	}
	resumed(1, 1)
	resumed(2, 2)
	resumed(3, 2)
}

// All containers are stopped while agencies wait, and go on when they are started again.
func testStopAndGoOn(t *testing.T, root string) {
	s := newStack(t, root, checkedIn)
	waiting := containers(1, 4) // agency 5 doesn't come, so the others wait
	s.must(append([]string{"up", "--detach"}, waiting...)...)
	// The files of agencies 1 to 4, in batches of 150.
	batches := 0
	for id := 1; id <= 4; id++ {
		batches += (dataset.Default().Agencies[id-1].Bets + 149) / 150
	}
	awaitLog(t, "server", "action: apuesta_recibida | result: success", batches)

	start := time.Now()
	s.must("stop")
	for _, name := range waiting {
		if code := exitCode(t, name); code != 0 { // one that takes too long is killed, and has another
			t.Errorf("%s ended with exit code %d", name, code)
		}
		log := docker(t, "logs", name)
		checkLines(t, log)
		if !strings.Contains(log, "action: shutdown | result: success") {
			t.Errorf("%s does not say that it was shut down\n%s", name, tail(log))
		}
	}
	t.Logf("docker compose stop took %v", time.Since(start))

	stored := strings.Count(s.export(), "\n")
	if stored == 0 {
		t.Fatal("nothing is stored, so there is nothing to go on with")
	}
	out := s.up()
	checkExits(t, out, containers(1, 5))
	want := fmt.Sprintf("action: ledger | result: success | dir: /data/agencies-5 | apuestas: %d |",
		stored)
	if !strings.Contains(out, want) {
		t.Errorf("the server does not go on: want %q\n%s", want, tail(out))
	}
	checkBets(t, s, root, 5)

	s.must("down", "--volumes")
	s.must("up", "--detach", "server")
	awaitLog(t, "server", "| apuestas: 0 | realizado: false", 1)
}

// With its profile the draw can be watched from the host, and ends as it does without it.
func testBoard(t *testing.T, root string) {
	s := newStack(t, root, checkedIn)
	s.profile = "board"
	s.must(append([]string{"up", "--detach", "board"}, containers(1, 4)...)...) // agency 5 lets them wait
	get := func(path string) string {
		response, err := http.Get("http://127.0.0.1:8080" + path)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err.Error()
		}
		return string(body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	for state := ""; !strings.Contains(state, `"reported":4,`); {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("not all four agencies have reported: %s", state)
		}
		state = get("/api/state")
	}
	if page := get("/board/"); !strings.Contains(page, "<title>") {
		t.Errorf("the board is %q", page)
	}
	out := s.up()
	checkExits(t, out, append(containers(1, 5), "board"))
	docker(t, "cp", "server:/data/agencies-5/board.html", root)
	if page := readFile(t, filepath.Join(root, "board.html")); !strings.Contains(page, `"bets":78697,`) {
		t.Error("the board that is left has other numbers")
	}
}

// With secrets that are mounted as doc.go says, every agency proves which one it is, and no secret
// is in a log.
func testSecrets(t *testing.T, root string) {
	const agencies = 5
	s := newStack(t, root, checkedIn,
		"SERVER_AGENCY_SECRETS_FILE=/secrets", "AGENCY_SECRET_FILE=/secret")
	dir := t.TempDir()
	secret := func(id int) string { return fmt.Sprintf("the-secret-of-agency-%d-is-long-enough", id) }
	mount := func(service, content, at string) string {
		path := filepath.Join(dir, service)
		writeFile(t, path, content, 0o644)
		return fmt.Sprintf("  %s: {volumes: [%q]}\n", service, path+":"+at+":ro")
	}
	all, services := "", "services:\n"
	for id := 1; id <= agencies; id++ {
		all += fmt.Sprintln(id, secret(id))
		services += mount(containers(1, agencies)[id], secret(id), "/secret")
	}
	services += mount("server", all, "/secrets")
	s.override = filepath.Join(dir, "secrets.yaml")
	writeFile(t, s.override, services, 0o644)

	out := s.up()
	checkExits(t, out, containers(1, agencies))
	checkBets(t, s, root, agencies)
	const proved = "action: autenticacion | result: success"
	if n := strings.Count(docker(t, "logs", "server"), proved); n != agencies {
		t.Errorf("%d agencies have proved who they are, want %d\n%s", n, agencies, tail(out))
	}
	if strings.Contains(out, "the-secret-of") {
		t.Errorf("a secret is logged\n%s", tail(out))
	}
}

// With tls.yaml every agency proves by its certificate which one it is. The certificates are made at
// the first start, and anew at every other one, and in the middle of a draw: the server then takes
// the new ones, and drops nobody.
func testTLS(t *testing.T, root string) {
	const proved = "action: autenticacion | result: success"
	s := newStack(t, root, checkedIn)
	s.override = filepath.Join(root, checkedInTLS)
	all := append(containers(1, 5), "certs")
	checkExits(t, s.up(), all)
	checkBets(t, s, root, 5)
	if winners := rows(t, s.export("--winners")); len(winners) != 10 {
		t.Errorf("%d winners, want 10", len(winners))
	}
	server := docker(t, "logs", "server")
	for id := 1; id <= 5; id++ {
		if line := fmt.Sprintf("%s | agencia: %d\n", proved, id); !strings.Contains(server, line) {
			t.Errorf("agency %d has not proved who it is: no %q\n%s", id, line, tail(server))
		}
	}

	s.must("down", "--volumes")
	s.must(append([]string{"up", "--detach"}, containers(1, 4)...)...) // agency 5 lets them wait
	awaitLog(t, "server", proved, 4)
	s.must("run", "--rm", "certs")
	awaitLog(t, "server", "new connections get another certificate", 1)
	checkExits(t, s.up(), all)
	checkBets(t, s, root, 5)
	if server := docker(t, "logs", "server"); strings.Count(server, proved) != 5 {
		t.Errorf("want that 5 agencies connect once each\n%s", tail(server))
	}
}

func testConfigurationError(t *testing.T, root string) {
	s := newStack(t, root, checkedIn, "SERVER_AGENCIES=cinco", "AGENCY_RETRY_FOR=2s")
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	out, err := s.run(ctx, "up")
	if err == nil || ctx.Err() != nil {
		t.Errorf("up with a configuration error: %v\n%s", err, tail(out))
	}
	if code := exitCode(t, "server"); code != 1 {
		t.Errorf("server ended with exit code %d, want 1", code)
	}
	log := docker(t, "logs", "server")
	checkLines(t, log)
	const says = "SERVER_AGENCIES=cinco is not legal: want 1 to 100000"
	if strings.Contains(log, "\n") || !strings.Contains(log, says) {
		t.Errorf("want one line that says what to change, not\n%s", log)
	}

	// Compose doesn't start the agencies, because they wait for a healthy server. Agencies that are
	// started without it give up by themselves.
	clients := containers(1, 5)[1:]
	s.must(append([]string{"up", "--detach", "--no-deps"}, clients...)...)
	for _, name := range clients {
		if code := exitCode(t, name); code != 3 {
			t.Errorf("%s ended with exit code %d, want 3\n%s", name, code, tail(docker(t, "logs", name)))
		}
		checkLines(t, docker(t, "logs", name))
	}
}

// docker-compose 1.29 reads the same file.
func testOldCompose(t *testing.T, root string) {
	version, err := exec.CommandContext(t.Context(), "docker-compose", "version", "--short").Output()
	if err != nil || !strings.HasPrefix(string(version), "1.") {
		t.Skipf("docker-compose 1.29 is not installed (%v)", err)
	}
	s := newStack(t, root, checkedIn)
	old := func(args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
		defer cancel()
		cmd := s.command(ctx)
		cmd.Args = append([]string{"docker-compose", "-f", s.file}, args...)
		if cmd.Path, cmd.Err = exec.LookPath("docker-compose"); cmd.Err != nil {
			t.Fatal(cmd.Err)
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("docker-compose %q: %v\n%s", args, err, tail(string(out)))
		}
		return string(out)
	}
	defer old("down", "--volumes") // Compose v2 doesn't find its containers: their labels differ
	out := old("up", "--no-color") // it writes colours also to a file
	checkLines(t, out)
	checkExits(t, out, containers(1, 5))
	checkBets(t, s, root, 5)
}
