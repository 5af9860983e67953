package board

import "time"

// State is what a server knows of its draw at one moment: the JSON of /api/state, of the board's
// events, and inside a board.html. It has counts, and nothing of any person. A State is never
// changed once it is made, so any goroutine may read it.
//
// Its size is bounded, whatever the number of agencies: the bounds are CellsMax, MissingMax,
// PointsMax and EventsMax.
type State struct {
	Time    time.Time `json:"time"`    // when it was taken
	Started time.Time `json:"started"` // when the server started; zero if it is made from a ledger
	Phase   Phase     `json:"phase"`

	Agencies  int   `json:"agencies"`  // expected; Waiting + Uploading + Reported + Served
	Waiting   int   `json:"waiting"`   // have no bet stored
	Uploading int   `json:"uploading"` // have bets stored, and haven't reported
	Reported  int   `json:"reported"`  // have reported, and aren't known to have their winners
	Served    int   `json:"served"`    // have their winners
	Bets      int64 `json:"bets"`      // stored
	Winners   int   `json:"winners"`   // winning bets; 0 before the draw

	// DrawnAt is when the draw took place; nil before it, and if it was before the server started.
	DrawnAt *time.Time `json:"drawn_at"`
	// Outcome is what the server ends with, in one line; "" while it goes on, or after a success.
	Outcome string `json:"outcome"`

	Connections     int   `json:"connections"`       // open ones
	QueueBytes      int64 `json:"queue_bytes"`       // bets that wait for the disk
	QueueLimitBytes int64 `json:"queue_limit_bytes"` // at which nothing more is read

	// Cells has a character for each PerCell agencies, in order of their ids, see Cell. A cell of
	// several shows the one that is furthest behind.
	Cells   string `json:"cells"`
	PerCell int    `json:"per_cell"`

	// Missing are the first agencies by id that haven't reported, or after the draw that aren't known
	// to have their winners.
	Missing []Agency `json:"missing"`

	Series  Series   `json:"series"`
	Events  []Event  `json:"events"`  // the last ones, oldest first, see Recorder.Note
	Cluster *Cluster `json:"cluster"` // nil: a server alone
}

// The bounds of a State.
const (
	CellsMax   = 2000
	MissingMax = 32
	PointsMax  = 512
	EventsMax  = 32
)

// Phase says how far a draw is.
type Phase string

// The phases, in order.
const (
	Opening Phase = "opening" // the ledger is replayed, or no server leads
	Intake  Phase = "intake"  // bets are taken
	Drawn   Phase = "drawn"   // the draw took place, and agencies get their winners
	Over    Phase = "over"    // the server ends, or has ended
)

// The characters of State.Cells.
const (
	CellWaiting   = 'w'
	CellUploading = 'u'
	CellReported  = 'r'
	CellServed    = 's'
)

// Agency is what is known of one agency.
type Agency struct {
	ID      uint32 `json:"id"`
	State   string `json:"state"`   // "waiting", "uploading", "reported" or "served"
	Bets    int64  `json:"bets"`    // stored
	Winners int    `json:"winners"` // winning bets; 0 before the draw
}

// Series counts the bets that were stored in each step of time since Start. When it is full, steps
// are joined in pairs and Step doubles, so that a short draw has many points and a long one isn't
// longer.
type Series struct {
	Start time.Time `json:"start"`
	Step  int64     `json:"step_ms"`
	Bets  []int64   `json:"bets"` // at most PointsMax; the last step may be going on
}

// EventKind says what happened.
type EventKind string

// The kinds of events.
const (
	EventStarted  EventKind = "started"  // this server
	EventReported EventKind = "reported" // an agency
	EventDraw     EventKind = "draw"
	EventServed   EventKind = "served" // an agency has its winners
	EventLeader   EventKind = "leader" // a server leads from here on, in that term
	EventLost     EventKind = "lost"   // no leader is known any more
	EventOver     EventKind = "over"
)

// Event is something that happened during the draw. Fields that don't belong to the kind are zero.
type Event struct {
	Time   time.Time `json:"time"`
	Kind   EventKind `json:"kind"`
	Agency uint32    `json:"agency,omitempty"`
	Server uint64    `json:"server,omitempty"`
	Term   uint64    `json:"term,omitempty"`
}

// Cluster is what this server knows of the servers that hold the draw together.
type Cluster struct {
	Server    uint64          `json:"server"` // this one
	Leader    uint64          `json:"leader"` // 0: none is known
	Term      uint64          `json:"term"`
	Committed uint64          `json:"committed"` // index of the last committed entry
	Servers   []ClusterServer `json:"servers"`   // by id
}

// ClusterServer is one of the servers.
type ClusterServer struct {
	ID        uint64 `json:"id"`
	Addr      string `json:"addr"`
	Votes     bool   `json:"votes"` // false: a learner, which only follows
	Connected bool   `json:"connected"`
	// Behind is how many committed entries it isn't known to have; nil if only the leader would know.
	Behind *uint64 `json:"behind"`
}
