package engine

import (
	"fmt"
	"net"
	"time"

	"loteria/engine/settings"
)

// ErrConfig says that a setting is not legal. An error that wraps it says what would be.
var ErrConfig = settings.ErrIllegal

// Config holds the settings of a server. Package settings says what the tags mean.
type Config struct {
	Addr                 string        `env:"SERVER_ADDR" envDefault:":12345" help:"address to listen on" legal:"HOST:PORT or :PORT"`
	Agencies             int           `env:"SERVER_AGENCIES" envDefault:"5" help:"expected agencies: ids 1 to this number" min:"1" max:"100000"`
	WinningNumber        uint32        `env:"SERVER_WINNING_NUMBER" envDefault:"7574" help:"the number that wins" min:"0" max:"999999999"`
	DataDir              string        `env:"SERVER_DATA_DIR" envDefault:"data" help:"directory of the ledger and its exports" legal:"a directory that can be written"`
	Durability           string        `env:"SERVER_DURABILITY" envDefault:"fsync" help:"what an ACK waits for: the disk, or only the operating system" oneof:"fsync os"`
	Winners              string        `env:"SERVER_WINNERS" envDefault:"push" help:"answer to GET_WINNERS before the draw: held until it, or an error at once" oneof:"push poll"`
	WinnersScope         string        `env:"SERVER_WINNERS_SCOPE" envDefault:"agency" help:"whose winners an agency gets: its own, or all" oneof:"agency all"`
	ExitGrace            time.Duration `env:"SERVER_EXIT_GRACE" envDefault:"10s" help:"how long to wait, with no agency connected, for one to come back; after the draw also how long one may stay connected that has taken its winners, at least 2s, and how long a server that starts then waits for the first to come, at least 2s" min:"0s" max:"24h"`
	Deadline             Deadline      `env:"SERVER_DEADLINE" help:"until when the draw has to take place; without it the server ends with exit code 3 and names the agencies that are missing. None if empty" legal:"a duration from the start, such as 2h, or a time, such as 2026-12-24T20:00:00Z"`
	Window               int           `env:"SERVER_WINDOW" envDefault:"64" help:"frames of a connection that may be unanswered at once" min:"1" max:"4096"`
	FrameBytesMax        int           `env:"SERVER_FRAME_BYTES_MAX" envDefault:"65536" help:"largest payload of an agency's frame, in bytes" min:"309" max:"16777216"`
	ConnectionsMax       int           `env:"SERVER_CONNECTIONS_MAX" envDefault:"16384" help:"connections at once; lowered, with a warning, to what the descriptor limit allows" min:"1" max:"1000000"`
	ConnectionsPerSource int           `env:"SERVER_CONNECTIONS_PER_SOURCE" envDefault:"0" help:"connections at once of one source address; 0 is no limit" min:"0" max:"1000000"`
	ReadTimeout          time.Duration `env:"SERVER_READ_TIMEOUT" envDefault:"30s" help:"how long a new connection may say nothing, or not who it is, a frame stay half sent, and a peer read nothing of what it asked for" min:"50ms" max:"24h"`
	UnreadBytesMax       int           `env:"SERVER_UNREAD_BYTES_MAX" envDefault:"65536" help:"bytes of answers that a peer may leave unread when it is owed another one, beside what its socket takes" min:"1024" max:"1073741824"`
	PartialBytesMax      int64         `env:"SERVER_PARTIAL_BYTES_MAX" envDefault:"134217728" help:"bytes of half sent frames to keep, of all connections; over it, the connection whose frame has been half sent longest is told ERROR_TIMEOUT and closed; at least SERVER_FRAME_BYTES_MAX" min:"65536" max:"17179869184"`
	QueueBytesMax        int           `env:"SERVER_QUEUE_BYTES_MAX" envDefault:"8388608" help:"bytes of bets that may wait for the disk, in all; when it is full, nothing more is read" min:"65536" max:"1073741824"`
	EventLoops           int           `env:"SERVER_EVENT_LOOPS" envDefault:"0" help:"event loops; 0 is one per core" min:"0" max:"256"`
	// AgencySecretsFile is read by Open.
	AgencySecretsFile string `env:"SERVER_AGENCY_SECRETS_FILE" help:"the agencies' secrets, a line each: id and secret; each agency then has to prove that it knows its own. None if empty" legal:"a file with a line for each expected agency"`
	// The files of TLSCert, TLSKey and TLSClientCA are read by Open, and again when they change.
	TLSAddr       string `env:"SERVER_TLS_ADDR" help:"address to listen on for agencies over TLS 1.3, beside SERVER_ADDR. None if empty" legal:"HOST:PORT or :PORT, and none of the other addresses"`
	TLSCert       string `env:"SERVER_TLS_CERT_FILE" help:"certificate that the server shows there, and those that link it with its authority; read again when the file changes, or on SIGHUP" legal:"a PEM file"`
	TLSKey        string `env:"SERVER_TLS_KEY_FILE" help:"key of that certificate" legal:"a PEM file"`
	TLSClientCA   string `env:"SERVER_TLS_CLIENT_CA_FILE" help:"authority that has signed the agencies' certificates; each agency then has to show its own there, whose one URI is spiffe://DOMAIN/agency/ID. Agencies show none if empty" legal:"a PEM file"`
	TLSHandshakes int    `env:"SERVER_TLS_HANDSHAKES" envDefault:"256" help:"TLS handshakes under way at once; if more want to begin, those that stand still are closed" min:"1" max:"65536"`

	HTTPAddr  string `env:"SERVER_HTTP_ADDR" help:"address to listen on for browsers and tools that watch: the board, metrics and health. Whoever reaches it sees counts, and nothing of any person. None if empty" legal:"HOST:PORT or :PORT, and not SERVER_ADDR"`
	HTTPPprof string `env:"SERVER_HTTP_PPROF" envDefault:"off" help:"whether profiles of the process are served there, too; they slow the server down while they are taken" oneof:"off on"`
	// ID and Peers make the server one of several; see Join. PeerAddr to PeerPlain count only then.
	ID          uint64 `env:"SERVER_ID" envDefault:"0" help:"this server's id, if several servers hold the draw together; 0 is a server alone" min:"0" max:"1000000"`
	Peers       Peers  `env:"SERVER_PEERS" help:"the servers that hold the draw together, this one included, the same on all of them: 1=server1:12346,2=server2:12346,3=server3:12346. The address is the one for the other servers. Agencies come to the same host with the port of SERVER_ADDR, or to the address behind a slash, as in 1=10.0.0.1:12346/server1.example.org:12345; over TLS to that host with the port of SERVER_TLS_ADDR, or to the address behind a second slash. None if empty" legal:"3 to 9 times ID=HOST:PORT, ID=HOST:PORT/HOST:PORT or ID=HOST:PORT/HOST:PORT/HOST:PORT, with commas"`
	Join        string `env:"SERVER_JOIN" envDefault:"off" help:"whether this server is added to servers that hold the draw already, as loteria cluster add says; the others of SERVER_PEERS are those" oneof:"off on"`
	PeerAddr    string `env:"SERVER_PEER_ADDR" help:"address to listen on for the other servers; the one in SERVER_PEERS if empty" legal:"HOST:PORT or :PORT"`
	Cluster     string `env:"SERVER_CLUSTER" envDefault:"loteria" help:"name of the servers that hold the draw together, the same on all of them; servers of another name are refused" legal:"1 to 64 letters, digits, dots or hyphens"`
	PeerTLSCert string `env:"SERVER_PEER_TLS_CERT_FILE" help:"certificate that the server shows the other servers; its one URI is spiffe://DOMAIN/server/ID. None if empty" legal:"a PEM file"`
	PeerTLSKey  string `env:"SERVER_PEER_TLS_KEY_FILE" help:"key of that certificate" legal:"a PEM file"`
	PeerTLSCA   string `env:"SERVER_PEER_TLS_CA_FILE" help:"authority that has signed the certificates of all servers" legal:"a PEM file"`
	PeerPlain   string `env:"SERVER_PEER_PLAIN" envDefault:"off" help:"whether the servers may talk to each other without TLS, though not all of them are on this machine" oneof:"off on"`

	// NoExport makes the server write no bets.csv and winners.csv: `loteria bench` has no use for
	// gigabytes of CSV. No variable sets it.
	NoExport bool
}

// The legal values of the settings that are words.
const (
	DurabilityFsync = "fsync"
	DurabilityOS    = "os"
	WinnersPush     = "push"
	WinnersPoll     = "poll"
	ScopeAgency     = "agency"
	ScopeAll        = "all"
	JoinOff         = "off"
	JoinOn          = "on"
	PprofOff        = "off"
	PprofOn         = "on"
)

// DefaultConfig is the configuration with every setting at its default.
func DefaultConfig() Config { return settings.Default[Config]() }

// Validate checks every setting, but opens nothing. The error wraps ErrConfig and names the first
// variable that is wrong.
func (c Config) Validate() error {
	if err := settings.CheckAddr("SERVER_ADDR", c.Addr, "HOST:PORT or :PORT"); err != nil {
		return err
	}
	if c.DataDir == "" {
		return settings.Illegal("SERVER_DATA_DIR", c.DataDir, "a directory")
	}
	if err := settings.Check(c); err != nil {
		return err
	}
	if err := c.checkHTTP(); err != nil {
		return err
	}
	if err := c.checkTLS(); err != nil {
		return err
	}
	if c.PartialBytesMax < int64(c.FrameBytesMax) {
		return settings.Illegal("SERVER_PARTIAL_BYTES_MAX", c.PartialBytesMax,
			fmt.Sprintf("at least SERVER_FRAME_BYTES_MAX=%d: a frame has to fit", c.FrameBytesMax))
	}
	return c.checkPeers()
}

// checkTLS checks the address for TLS, and that the files which it needs are named.
func (c Config) checkTLS() error {
	const name, legal = "SERVER_TLS_ADDR", "HOST:PORT or :PORT, and none of the other addresses"
	if c.TLSAddr == "" {
		for _, file := range []struct{ name, value string }{
			{"SERVER_TLS_CERT_FILE", c.TLSCert}, {"SERVER_TLS_KEY_FILE", c.TLSKey}, {"SERVER_TLS_CLIENT_CA_FILE", c.TLSClientCA},
		} {
			if file.value != "" {
				return settings.Illegal(file.name, file.value, "a PEM file only with SERVER_TLS_ADDR, which is empty")
			}
		}
		return nil
	}
	if err := settings.CheckAddr(name, c.TLSAddr, legal); err != nil {
		return err
	}
	if _, port, _ := net.SplitHostPort(c.TLSAddr); port != "0" && (c.TLSAddr == c.Addr || c.TLSAddr == c.HTTPAddr) {
		return settings.Illegal(name, c.TLSAddr, legal)
	}
	if c.TLSCert == "" || c.TLSKey == "" {
		return settings.Illegal(name, c.TLSAddr,
			"an address with SERVER_TLS_CERT_FILE and SERVER_TLS_KEY_FILE: `loteria certs` makes some for development")
	}
	return nil
}

// checkHTTP checks the address for those that watch. Port 0 is another one each time.
func (c Config) checkHTTP() error {
	const name, legal = "SERVER_HTTP_ADDR", "HOST:PORT or :PORT, and not SERVER_ADDR"
	if c.HTTPAddr == "" {
		return nil
	}
	if err := settings.CheckAddr(name, c.HTTPAddr, legal); err != nil {
		return err
	}
	if _, port, _ := net.SplitHostPort(c.HTTPAddr); c.HTTPAddr == c.Addr && port != "0" {
		return settings.Illegal(name, c.HTTPAddr, legal)
	}
	return nil
}
