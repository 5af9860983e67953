package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestPeers(t *testing.T) {
	for text, want := range map[string]Peers{
		"":                  nil,
		"1=a:1,2=b:2,3=c:3": {{1, "a:1", "", ""}, {2, "b:2", "", ""}, {3, "c:3", "", ""}},
		"3=c:3,1=a:1,2=b:2": {{1, "a:1", "", ""}, {2, "b:2", "", ""}, {3, "c:3", "", ""}},
		"1=10.0.0.1:12346/server1.example.org:12345,7=[::1]:2,18446744073709551615=c:3": {
			{1, "10.0.0.1:12346", "server1.example.org:12345", ""}, {7, "[::1]:2", "", ""}, {1<<64 - 1, "c:3", "", ""}},
		"1=a:1/b:1/c:1,2=b:2,3=c:3": {{1, "a:1", "b:1", "c:1"}, {2, "b:2", "", ""}, {3, "c:3", "", ""}},
		"1=a:1,2=a:1,3=a:1,4=a:1,5=a:1,6=a:1,7=a:1,8=a:1,9=a:1": {{1, "a:1", "", ""}, {2, "a:1", "", ""}, {3, "a:1", "", ""},
			{4, "a:1", "", ""}, {5, "a:1", "", ""}, {6, "a:1", "", ""}, {7, "a:1", "", ""}, {8, "a:1", "", ""}, {9, "a:1", "", ""}},
	} {
		var p, again Peers
		if err := p.UnmarshalText([]byte(text)); err != nil || !slices.Equal(p, want) {
			t.Errorf("%q is %v, %v; want %v", text, p, err, want)
		}
		if err := again.UnmarshalText([]byte(p.String())); err != nil || !slices.Equal(again, want) {
			t.Errorf("%q is shown as %q, which is %v, %v", text, p, again, err)
		}
	}
	for _, text := range []string{
		"1=a:1", "1=a:1,2=b:2", // too few
		"1=a:1,2=a:1,3=a:1,4=a:1,5=a:1,6=a:1,7=a:1,8=a:1,9=a:1,10=a:1",
		"1=a:1,2=b:2,2=c:3", "0=a:1,2=b:2,3=c:3", "01=a:1,2=b:2,3=c:3", "-1=a:1,2=b:2,3=c:3", "a=a:1,2=b:2,3=c:3",
		"1=a,2=b:2,3=c:3", "1=:1,2=b:2,3=c:3", "1=a:0,2=b:2,3=c:3", "1=a:x,2=b:2,3=c:3", "a:1,b:2,c:3",
		"1=a:1/,2=b:2,3=c:3", "1=a:1/b,2=b:2,3=c:3", "1=a:1/b:1/c,2=b:2,3=c:3", "1=a:1//c:1,2=b:2,3=c:3",
		"1=a:1/b:1/c:1/d:1,2=b:2,3=c:3", "1=a:1/b:1/,2=b:2,3=c:3",
		"1=a:1, 2=b:2,3=c:3", "1=a:1,2=b:2,3=c:3,", " ",
	} {
		before := Peers{{1, "a:1", "", ""}}
		p := slices.Clone(before)
		if err := p.UnmarshalText([]byte(text)); err == nil || !slices.Equal(p, before) {
			t.Errorf("%q is %v, %v", text, p, err)
		}
	}
}

// What is read is written as it was, but for the order; nothing crashes.
func FuzzPeers(f *testing.F) {
	f.Add("1=a:1,2=b:2,3=c:3")
	f.Add("2=a:1/b:1,1=[::1]:2,3=c:3")
	f.Add("2=a:1/b:1/c:1,1=[::1]:2,3=c:3")
	f.Add("1=a:1,1=b:2,3=c:3")
	f.Fuzz(func(t *testing.T, text string) {
		var p, again Peers
		if p.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(p.String())); err != nil || !slices.Equal(p, again) || len(p.String()) != len(text) {
			t.Errorf("%q is %v, and again %v, %v", text, p, again, err)
		}
	})
}

func TestPeersSettings(t *testing.T) {
	three := Peers{{1, "server1:12346", "", ""}, {2, "server2:12346", "", ""}, {3, "server3:12346", "", ""}}
	local := Peers{{1, "127.0.0.1:12346", "", ""}, {2, "localhost:12347", "", ""}, {3, "[::1]:12348", "", ""}}
	for _, test := range []struct {
		name  string
		set   func(*Config)
		wrong string // the variable that the error names; empty if the settings are legal
	}{
		{"local", func(c *Config) { c.Peers = local }, ""},
		{"plain", func(c *Config) { c.PeerPlain = "on" }, ""},
		{"TLS", func(c *Config) { c.PeerTLSCert, c.PeerTLSKey, c.PeerTLSCA = "a", "b", "c" }, ""},
		{"plain by mistake", func(*Config) {}, "SERVER_PEER_TLS_CERT_FILE="},
		{"no key", func(c *Config) { c.PeerTLSCert, c.PeerTLSCA = "a", "c" }, "SERVER_PEER_TLS_CERT_FILE=a"},
		{"an authority alone", func(c *Config) { c.Peers, c.PeerTLSCA = local, "c" }, "SERVER_PEER_TLS_CERT_FILE="},
		{"no peers", func(c *Config) { c.Peers = nil }, "SERVER_ID=1"},
		{"nobody", func(c *Config) { c.Peers, c.ID = local, 0 }, "SERVER_ID=0"},
		{"a stranger", func(c *Config) { c.Peers, c.ID = local, 4 }, "SERVER_ID=4"},
		{"a cluster", func(c *Config) { c.Peers, c.Cluster = local, "Draw-2026.12" }, ""},
		{"no cluster", func(c *Config) { c.Peers, c.Cluster = local, "" }, "SERVER_CLUSTER="},
		{"a cluster in words", func(c *Config) { c.Peers, c.Cluster = local, "a b" }, "SERVER_CLUSTER=a b"},
		{"an address", func(c *Config) { c.Peers, c.PeerAddr = local, ":1" }, ""},
		{"no port", func(c *Config) { c.Peers, c.PeerAddr = local, "a" }, "SERVER_PEER_ADDR=a"},
		{"acknowledged early", func(c *Config) { c.Peers, c.Durability = local, DurabilityOS }, "SERVER_DURABILITY=os"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.ID, cfg.Peers = 1, three
			test.set(&cfg)
			err := cfg.Validate()
			if test.wrong == "" && err != nil {
				t.Error(err)
			}
			if test.wrong != "" && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), test.wrong+" is not legal")) {
				t.Errorf("%v, want it to name %s", err, test.wrong)
			}
		})
	}
}

// Agencies come to a peer's host, with the port that they have here, unless SERVER_PEERS says where.
func TestAgenciesAddr(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Addr = "0.0.0.0:4000"
	for peer, want := range map[Peer]string{
		{1, "server1:12346", "", ""}:                   "server1:4000",
		{1, "[::1]:12346", "", ""}:                     "[::1]:4000",
		{1, "10.0.0.1:1", "lottery.example.org:9", ""}: "lottery.example.org:9",
	} {
		if got := cfg.agenciesAddr(peer); got != want {
			t.Errorf("agencies of %v come to %s, want %s", peer, got, want)
		}
	}
}
