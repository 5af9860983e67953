package compose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caarlos0/env/v11"

	"loteria/agency/dataset"
	"loteria/engine"
)

// repository is the checkout's root, relative to this package.
const repository = ".."

// checkedIn is the compose file for five agencies, and checkedInTLS the second one with which they use
// TLS, relative to the root.
const (
	checkedIn    = "compose/docker-compose-dev.yaml"
	checkedInTLS = "compose/tls.yaml"
)

// checkout copies the files of a fresh clone that Docker, Go and the script need. It returns the
// copy's root.
func checkout(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	copyInto(t, root, "agency", "cmd", "codec", "compose", "engine", "testdata",
		".dockerignore", "generar-compose.sh", "go.mod", "go.sum")
	return root
}

// scriptAlone is checkout without the program's source: for the script, and programs that stand in
// for those that would compile it.
func scriptAlone(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	copyInto(t, root, "compose", "testdata/dataset.zip", "generar-compose.sh")
	if err := os.MkdirAll(filepath.Join(root, "cmd", "loteria"), 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

// copyInto copies files and directories of the repository.
func copyInto(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		from, to := filepath.Join(repository, name), filepath.Join(root, name)
		info, err := os.Stat(from)
		switch {
		case err != nil:
		case info.IsDir():
			err = os.CopyFS(to, os.DirFS(from))
		default:
			if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
				writeFile(t, to, readFile(t, from), info.Mode())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// generate runs a checkout's script in its root, and returns its exit code and its output.
// environment overrides the process's own.
func generate(
	t *testing.T, root string, environment []string, args ...string,
) (code int, said string) {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed, and the script needs it")
	}
	var out bytes.Buffer
	args = append([]string{"./generar-compose.sh"}, args...)
	cmd := exec.CommandContext(t.Context(), bash, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, &out, &out
	cmd.Env = append(os.Environ(), environment...)
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// onlyTools makes a PATH with only the named programs of this machine.
func onlyTools(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return "PATH=" + dir
}

// withoutUnpacker are the programs that the script always needs. None of them unpacks a zip.
var withoutUnpacker = []string{"cat", "chmod", "dirname", "mkdir", "mktemp", "mv", "rm", "tr"}

// bundled returns the bets of one agency of the bundled dataset.
func bundled(t *testing.T, agency int) string {
	t.Helper()
	return bets(t, dataset.Default(), agency)
}

// bets returns the bets of one agency of a dataset.
func bets(t *testing.T, spec dataset.Spec, agency int) string {
	t.Helper()
	var out bytes.Buffer
	if err := spec.WriteAgency(t.Context(), &out, agency); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestCheckedInFileIsWhatTheScriptWrites(t *testing.T) {
	root := scriptAlone(t)
	want := readFile(t, filepath.Join(root, checkedIn))
	wantTLS := readFile(t, filepath.Join(root, checkedInTLS))
	for _, args := range [][]string{
		{"docker-compose-dev.yaml", "5"}, {"docker-compose-dev.yaml"}, {checkedIn, "5"}, {checkedIn, "5", "1"},
		{checkedIn, "5", "1", "docker-compose-tls.yaml"}, {"docker-compose-dev.yaml", "5", "1", checkedInTLS},
	} {
		provideBets(t, root, 5)
		if code, said := generate(t, root, nil, args...); code != 0 {
			t.Fatalf("%q: exit code %d: %s", args, code, said)
		}
		if got := readFile(t, filepath.Join(root, args[0])); got != want {
			t.Errorf("%q: the output is not %s. If the change is right, run ./generar-compose.sh %s 5",
				args, checkedIn, checkedIn)
		}
		if len(args) < 4 {
			continue
		}
		if got := readFile(t, filepath.Join(root, args[3])); got != wantTLS {
			t.Errorf("%q: the output is not %s. If the change is right, run ./generar-compose.sh %s 5 1 %s",
				args, checkedInTLS, checkedIn, checkedInTLS)
		}
	}
}

// provideBets puts files for agencies 1 to n into .data/, so that the script need not unpack or
// make them.
func provideBets(t *testing.T, root string, n int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(root, ".data"), 0o755); err != nil {
		t.Fatal(err)
	}
	for agency := 1; agency <= n; agency++ {
		writeFile(t, filepath.Join(root, ".data", dataset.FileName(agency)), "", 0o644)
	}
}

func TestScriptWritesAServiceAnAgency(t *testing.T) {
	root := scriptAlone(t)
	provideBets(t, root, 40)
	for _, n := range []string{"40", "1"} { // the second file has nothing of the first
		if code, said := generate(t, root, nil, "x.yaml", n); code != 0 {
			t.Fatalf("exit code %d: %s", code, said)
		}
		file := readFile(t, filepath.Join(root, "x.yaml"))
		for want, count := range map[string]int{
			"\n  server:\n":      1,
			"\n  client":         map[string]int{"1": 1, "40": 40}[n],
			"AGENCY_ID: " + n:    1,
			"\n  client" + n:     1,
			"_AGENCIES:-" + n:    2,
			"condition: service": 1,
			"healthcheck:":       1,
		} {
			if got := strings.Count(file, want); got != count {
				t.Errorf("%s agencies: %q is there %d times, want %d", n, want, got, count)
			}
		}
	}
}

func TestScriptWritesAServiceAServer(t *testing.T) {
	root := scriptAlone(t)
	provideBets(t, root, 5)
	for servers, addresses := range map[int]string{
		3: "server1:12345,server2:12345,server3:12345",
		9: "server1:12345,server2:12345,server3:12345,server4:12345,server5:12345,server6:12345,server7:12345,server8:12345,server9:12345",
	} {
		generateServers(t, root, "x.yaml", servers)
		file := readFile(t, filepath.Join(root, "x.yaml"))
		for want, count := range map[string]int{
			"\n  server":                             servers,
			"\n  server:\n":                          0,
			"container_name: server":                 servers,
			"container_name: client":                 5,
			"\n      SERVER_ID: ":                    servers,
			":/data\n":                               servers,
			"\n  ledger":                             servers,
			"build:":                                 1,
			"ports:":                                 3, // of the board, Prometheus and Grafana
			"profiles: [":                            3,
			"targets-" + strconv.Itoa(servers):       1,
			"condition: service_started":             servers,
			"condition: service_healthy":             0,
			"AGENCY_SERVER:-" + addresses:            1,
			"/data/servers-" + strconv.Itoa(servers): 1,
		} {
			if got := strings.Count(file, want); got != count {
				t.Errorf("%d servers: %q is there %d times, want %d", servers, want, got, count)
			}
		}
	}
}

// generateServers writes a compose file for five agencies and so many servers, and the second files
// for TLS that are named.
func generateServers(t *testing.T, root, file string, servers int, tls ...string) {
	t.Helper()
	args := append([]string{file, "5", strconv.Itoa(servers)}, tls...)
	if code, said := generate(t, root, nil, args...); code != 0 {
		t.Fatalf("./generar-compose.sh %q: exit code %d\n%s", args, code, tail(said))
	}
}

// service is what Compose makes of a service.
type service struct {
	Environment map[string]string
	Networks    map[string]struct{ Aliases []string }
	Volumes     []struct {
		Source, Target string
		ReadOnly       bool `json:"read_only"`
	}
	DependsOn map[string]struct{ Condition string } `json:"depends_on"`
	Command   []string
	Profiles  []string
	Ports     []struct {
		HostIP string `json:"host_ip"`
	}
}

// server is the configuration that the program takes from a server's environment.
func (s service) server(t *testing.T) engine.Config {
	t.Helper()
	var cfg engine.Config
	if err := env.ParseWithOptions(&cfg, env.Options{Environment: s.Environment}); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	return cfg
}

// readByCompose returns the services of compose files as Compose reads them, which needs no running
// Docker. Without Compose the test is skipped.
func readByCompose(t *testing.T, s *stack) map[string]service {
	t.Helper()
	if err := exec.CommandContext(t.Context(), "docker", "compose", "version").Run(); err != nil {
		t.Skipf("NOT TESTED: Docker with Compose v2 is not installed: %v", err)
	}
	cmd := s.command(t.Context(), "config", "--format", "json")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || said.Len() > 0 {
		t.Fatalf("docker compose config: %v\n%s", err, said.String())
	}
	var config struct{ Services map[string]service }
	if err := json.Unmarshal(out, &config); err != nil {
		t.Fatal(err)
	}
	return config.Services
}

// Compose reads the file, also with compose/.env, and the program takes what it makes of it.
func TestComposeReadsSeveralServers(t *testing.T) {
	t.Parallel()
	root := scriptAlone(t)
	provideBets(t, root, 5)
	for file, servers := range map[string]int{"x.yaml": 3, "compose/x.yaml": 9} {
		generateServers(t, root, file, servers)
		services := readByCompose(t, &stack{root: root, file: file})
		ledgers := map[string]bool{}
		for id := 1; id <= servers; id++ {
			name := containers(servers, 0)[id-1]
			service := services[name]
			cfg := service.server(t)
			if cfg.ID != uint64(id) || len(cfg.Peers) != servers {
				t.Errorf("%s: id %d of %d servers", name, cfg.ID, len(cfg.Peers))
			}
			if !slices.Equal(service.Networks["loteria"].Aliases, []string{"server"}) {
				t.Errorf("%s: networks %v, want the alias server", name, service.Networks)
			}
			for _, volume := range service.Volumes {
				ledgers[volume.Source] = true
			}
		}
		if len(ledgers) != servers {
			t.Errorf("%d servers have the volumes %v", servers, ledgers)
		}
	}
}

// Nothing but what belongs to a profile publishes a port, and that to this machine only. Prometheus and
// Grafana get files that are there.
func TestComposeReadsProfiles(t *testing.T) {
	t.Parallel()
	root := scriptAlone(t)
	provideBets(t, root, 5)
	for file, servers := range map[string]int{checkedIn: 1, "x.yaml": 3, "compose/x.yaml": 9} {
		generateServers(t, root, file, servers)
		s := &stack{root: root, file: file}
		for name, service := range readByCompose(t, s) {
			if len(service.Ports) > 0 {
				t.Errorf("%s publishes %v without a profile", name, service.Ports)
			}
		}
		s.profile = "*"
		services := readByCompose(t, s)
		var boards []string
		for _, name := range containers(servers, 0) {
			boards = append(boards, name+":8080")
			if addr := services[name].server(t).HTTPAddr; addr != ":8080" {
				t.Errorf("%s is watched on %q", name, addr)
			}
		}
		want := []string{"board", "--addr", ":8080", "--servers", strings.Join(boards, ",")}
		if command := services["board"].Command; !slices.Equal(command, want) {
			t.Errorf("the board is %q, want %q", command, want)
		}
		for name, profile := range map[string]string{"board": "board", "prometheus": "observability", "grafana": "observability"} {
			service := services[name]
			if !slices.Equal(service.Profiles, []string{profile}) || len(service.Ports) != 1 || service.Ports[0].HostIP != "127.0.0.1" {
				t.Errorf("%s: profiles %v, ports %v", name, service.Profiles, service.Ports)
			}
			for _, volume := range service.Volumes {
				if _, err := os.Stat(volume.Source); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

// With the second file everyone uses TLS, with a certificate of its own that is made before, and no
// other container can connect without TLS.
func TestComposeReadsTLS(t *testing.T) {
	t.Parallel()
	root := scriptAlone(t)
	provideBets(t, root, 5)
	for file, servers := range map[string]int{checkedIn: 1, "x.yaml": 3, "compose/x.yaml": 9} {
		const tls = "docker-compose-tls.yaml"
		generateServers(t, root, file, servers, tls)
		services := readByCompose(t, &stack{root: root, file: file, override: filepath.Join(root, tls)})
		want := []string{"certs", "--renew", "--out", "/certs", "--servers", strconv.Itoa(servers), "--agencies", "5"}
		if command := services["certs"].Command; !slices.Equal(command, want) {
			t.Errorf("certificates are made by %q", command)
		}
		names := containers(servers, 5)
		var addresses []string
		for i, name := range names[:servers] {
			addresses = append(addresses, name+":12443")
			own := fmt.Sprintf("/certs/server-%d", i+1)
			cfg := services[name].server(t)
			got := []string{cfg.Addr, cfg.TLSAddr, cfg.TLSCert, cfg.TLSKey, cfg.TLSClientCA}
			want := []string{"127.0.0.1:12345", ":12443", own + ".pem", own + "-key.pem", "/certs/ca.pem"}
			if servers > 1 {
				got = append(got, cfg.PeerTLSCert, cfg.PeerTLSKey, cfg.PeerTLSCA, cfg.PeerPlain)
				want = append(want, own+".pem", own+"-key.pem", "/certs/ca.pem", "off")
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s has %q, want %q", name, got, want)
			}
			if condition := services[name].DependsOn["certs"].Condition; condition != "service_completed_successfully" {
				t.Errorf("%s starts when certs is %q", name, condition)
			}
		}
		for i, name := range names[servers:] {
			own := fmt.Sprintf("/certs/agency-%d", i+1)
			for variable, want := range map[string]string{
				"AGENCY_ID": strconv.Itoa(i + 1), "AGENCY_SERVER": strings.Join(addresses, ","), "AGENCY_TLS_CA_FILE": "/certs/ca.pem",
				"AGENCY_TLS_CERT_FILE": own + ".pem", "AGENCY_TLS_KEY_FILE": own + "-key.pem", "AGENCY_TLS_SERVER_NAME": "",
			} {
				if got := services[name].Environment[variable]; got != want {
					t.Errorf("%s: %s=%s, want %s", name, variable, got, want)
				}
			}
			if depends := services[name].DependsOn; len(depends) != servers {
				t.Errorf("%s starts after %v, want the servers", name, depends)
			}
		}
		for _, name := range names {
			mounted := false
			for _, volume := range services[name].Volumes {
				mounted = mounted || volume.Source == "certs" && volume.Target == "/certs" && volume.ReadOnly
			}
			if !mounted {
				t.Errorf("%s doesn't have the certificates, or can write them: %v", name, services[name].Volumes)
			}
		}
	}
}

func TestScriptRefusesBadArguments(t *testing.T) {
	root := scriptAlone(t)
	const before = "as it was\n"
	for _, args := range [][]string{
		{},
		{"x.yaml", "5", "3", ""},
		{"x.yaml", "5", "3", "x.yaml"},
		{"compose/../x.yaml", "5", "3", "./x.yaml"},
		{"x.yaml", "5", "3", "compose"},
		{"x.yaml", "5", "3", "nowhere/y.yaml"},
		{"x.yaml", "5", "3", "y.yaml", "y.yaml"},
		{"x.yaml", "5", "0"},
		{"x.yaml", "5", "2"},
		{"x.yaml", "5", "10"},
		{"x.yaml", "5", "tres"},
		{"x.yaml", "0"},
		{"x.yaml", "-1"},
		{"x.yaml", "05"},
		{"x.yaml", "1001"},
		{"x.yaml", "99999999999999999999"},
		{"x.yaml", "cinco"},
		{"x.yaml", "5 5"},
		{"x.yaml", "a[$(touch hacked)]"},
		{""},
		{"--help"},
		{"compose"},
		{"nowhere/x.yaml"},
	} {
		writeFile(t, filepath.Join(root, "x.yaml"), before, 0o644)
		code, said := generate(t, root, nil, args...)
		if code != 2 || !strings.Contains(said, "usage: ./generar-compose.sh FILE [N [SERVERS [TLS_FILE]]]") {
			t.Errorf("%q: exit code %d, want 2 and the usage: %s", args, code, said)
		}
		if got := readFile(t, filepath.Join(root, "x.yaml")); got != before {
			t.Errorf("%q: the file was changed", args)
		}
	}
	if left, err := filepath.Glob(filepath.Join(root, ".data", "*")); len(left) > 0 || err != nil {
		t.Errorf("made without right arguments: %q %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(root, "hacked")); err == nil {
		t.Error("an argument was run as a command")
	}
}

func TestScriptUnpacksWhatIsNotThere(t *testing.T) {
	if _, err := exec.LookPath("unzip"); err != nil {
		t.Skip("unzip is not installed; with Docker instead, TestDraw unpacks")
	}
	root := scriptAlone(t)
	const mine = "Juan,Pérez,12345678,1990-05-23,7574\r\n"
	provideBets(t, root, 0)
	writeFile(t, filepath.Join(root, ".data", dataset.FileName(2)), mine, 0o644)
	if code, said := generate(t, root, nil, "x.yaml", "3"); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	for agency, want := range map[int]string{1: bundled(t, 1), 2: mine, 3: bundled(t, 3)} {
		if readFile(t, filepath.Join(root, ".data", dataset.FileName(agency))) != want {
			t.Errorf("agency %d has other bets than it should", agency)
		}
	}
	left, err := filepath.Glob(filepath.Join(root, ".data", "*"))
	if err != nil || len(left) != 3 {
		t.Errorf("in .data: %q %v, want three agencies' files", left, err)
	}
}

func TestScriptSaysWhatIsMissing(t *testing.T) {
	for _, test := range []struct {
		n    string
		have int // agencies that have a file
		want string
	}{
		{"5", 0, "install unzip or Go, or start Docker"},
		{"7", 5, "no bets for agency 6 7: the dataset has 5 agencies, and nothing here can make the rest: install Go, start Docker, or put"},
	} {
		root := scriptAlone(t)
		provideBets(t, root, test.have)
		const before = "as it was\n"
		writeFile(t, filepath.Join(root, "x.yaml"), before, 0o644)
		code, said := generate(t, root, []string{onlyTools(t, withoutUnpacker...)}, "x.yaml", test.n)
		if code != 1 || !strings.Contains(said, test.want) {
			t.Errorf("%s agencies: exit code %d, want 1 and %q: %s", test.n, code, test.want, said)
		}
		if got := readFile(t, filepath.Join(root, "x.yaml")); got != before {
			t.Errorf("%s agencies: the file was changed", test.n)
		}
		left, err := filepath.Glob(filepath.Join(root, ".data", "*"))
		if err != nil || len(left) != test.have {
			t.Errorf("%s agencies: in .data: %q %v", test.n, left, err)
		}
	}
}

// standIn is a program that records its arguments. Where `dataset --out DIR` or `docker cp FROM
// DIR` would write, it makes $AGENCIES files with its name in them.
const standIn = `#!/bin/sh
me=${0##*/}
echo "$me $*" >>"$CALLS"
dir=
while [ $# -gt 0 ]; do
	case $me:$1 in
	docker:image) exit 1 ;; # there is none yet
	docker:cp) dir=$3 ;;
	loteria:--out | go:--out) dir=$2 ;;
	esac
	shift
done
[ -n "$dir" ] || exit 0
i=1
while [ $i -le $AGENCIES ]; do
	echo "$me" >"$dir/agency-$i.csv"
	i=$((i + 1))
done
`

// broken is a program that fails.
const broken = `#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
echo "no ${0##*/} today" >&2
exit 1
`

// useless is another program of the same name. It succeeds and makes nothing.
const useless = `#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
`

// The script makes missing bets with the first of loteria, Go and Docker that is there. If that
// fails, it tries the next one.
func TestScriptMakesBets(t *testing.T) {
	t.Parallel()
	type programs map[string]string
	for _, test := range []struct {
		name string
		have programs
		code int
		by   string   // the program that makes the bets
		runs []string // the beginnings of the commands that the script runs, in order
		says string
	}{
		{"all", programs{"loteria": standIn, "go": standIn, "docker": standIn}, 0, "loteria", []string{"loteria dataset --out "}, ""},
		{"Go and Docker", programs{"go": standIn, "docker": standIn}, 0, "go", []string{"go run -C "}, "compiling loteria"},
		{"Docker", programs{"docker": standIn}, 0, "docker",
			[]string{"docker version", "docker image inspect", "docker build", "docker create", "docker start", "docker cp", "docker rm"}, "building the image"},
		{"loteria alone", programs{"loteria": standIn}, 0, "loteria", []string{"loteria dataset --out "}, ""},
		{"a loteria that can't", programs{"loteria": broken, "go": standIn}, 0, "go", []string{"loteria dataset", "go run"}, "no loteria today\nloteria is here, but can't"},
		{"another loteria", programs{"loteria": useless, "go": standIn}, 0, "go", []string{"loteria dataset", "go run"}, "loteria is here, but can't"},
		{"an old Go", programs{"go": broken, "docker": standIn}, 0, "docker",
			[]string{"go run", "docker version", "docker image", "docker build", "docker create", "docker start", "docker cp", "docker rm"}, "no go today\ngo is here, but can't"},
		{"none that can", programs{"loteria": broken, "go": broken, "docker": broken}, 1, "", []string{"loteria dataset", "go run", "docker version"}, "no bets for agency 6 7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := scriptAlone(t)
			provideBets(t, root, 5)
			path := onlyTools(t, withoutUnpacker...)
			for name, program := range test.have {
				writeFile(t, filepath.Join(strings.TrimPrefix(path, "PATH="), name), program, 0o755)
			}
			calls := filepath.Join(t.TempDir(), "calls")
			writeFile(t, calls, "", 0o644)
			code, said := generate(t, root, []string{path, "CALLS=" + calls, "AGENCIES=7"}, "x.yaml", "7")
			if code != test.code || !strings.Contains(said, test.says) {
				t.Errorf("exit code %d, want %d and %q: %s", code, test.code, test.says, said)
			}
			ran := strings.Split(strings.TrimSpace(readFile(t, calls)), "\n")
			if len(ran) != len(test.runs) {
				t.Fatalf("it runs %q, want %q", ran, test.runs)
			}
			for i, want := range test.runs {
				if !strings.HasPrefix(ran[i], want) {
					t.Errorf("it runs %q, want %q", ran[i], want)
				}
				if strings.Contains(ran[i], " dataset ") && !strings.Contains(ran[i], " --agencies 7") {
					t.Errorf("%q is not for 7 agencies", ran[i])
				}
			}
			if code != 0 {
				return
			}
			for agency, want := range map[int]string{5: "", 6: test.by + "\n", 7: test.by + "\n"} {
				if got := readFile(t, filepath.Join(root, ".data", dataset.FileName(agency))); got != want {
					t.Errorf("agency %d has bets %q, want %q", agency, got, want)
				}
			}
			left, err := filepath.Glob(filepath.Join(root, ".data", "*"))
			if err != nil || len(left) != 7 {
				t.Errorf("in .data: %q %v, want seven agencies' files", left, err)
			}
		})
	}
}

// With Go, the script makes the same bets as `loteria dataset`, and only for agencies that have
// none.
func TestScriptMakesBetsWithGo(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("go is not on the PATH, though it runs this test")
	}
	root := checkout(t)
	provideBets(t, root, 4)
	// With it, Go uses what it has compiled elsewhere.
	trimPath := "GOFLAGS=" + os.Getenv("GOFLAGS") + " -trimpath"
	path := onlyTools(t, append([]string{"go"}, withoutUnpacker...)...)
	if code, said := generate(t, root, []string{path, trimPath}, "x.yaml", "7"); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	spec, err := dataset.Sized(7, dataset.Default().Totals().Bets)
	if err != nil {
		t.Fatal(err)
	}
	for agency, want := range map[int]string{4: "", 5: bundled(t, 5), 6: bets(t, spec, 6), 7: bets(t, spec, 7)} {
		if readFile(t, filepath.Join(root, ".data", dataset.FileName(agency))) != want {
			t.Errorf("agency %d has other bets than it should", agency)
		}
	}
}
