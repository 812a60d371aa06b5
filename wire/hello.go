package wire

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
)

// Protocol is the version spoken here, MinProtocol the oldest one understood. A
// primary sends a mirror nothing that is newer than what that speaks.
const (
	Protocol    = 5
	MinProtocol = 4

	ProtocolHints = 5 // op.Hint
)

// Hello opens a session: the primary says who it is and what it can resume.
type Hello struct {
	Protocol    int       `json:"protocol"`
	MinProtocol int       `json:"min_protocol"`
	Software    string    `json:"software"`
	Volume      string    `json:"volume"`
	Node        op.NodeID `json:"node"`
	Name        string    `json:"name"`
	Line        op.Line   `json:"line"`
	Oldest      op.LSN    `json:"oldest"` // the ring holds [Oldest, Next)
	Next        op.LSN    `json:"next"`
	// Follows is the end of the line before, after a clean stop of the primary. A
	// mirror in sync that stands just there resumes at LSN 0 of this line.
	Follows *op.Position `json:"follows,omitempty"`
}

// Answer is the mirror's reply. It has recorded nothing yet.
type Answer struct {
	Refusal  *Refusal     `json:"refusal,omitempty"`
	Protocol int          `json:"protocol"`
	Volume   string       `json:"volume"`
	Node     op.NodeID    `json:"node"`
	Name     string       `json:"name"`
	Epoch    op.Epoch     `json:"epoch"` // the highest it has seen
	Met      uint64       `json:"met"`   // the number of its last meeting with this primary
	InSync   bool         `json:"in_sync"`
	Fresh    bool         `json:"fresh"`            // it belongs to no volume yet
	Knows    bool         `json:"knows"`            // it has a map of the primary: unless it resumes, Regions follow Begun
	Resume   *op.Position `json:"resume,omitempty"` // a live session of this process
}

// Code says why a session or call was refused.
type Code string

const (
	CodeHigherEpoch   Code = "higher_epoch"   // a higher epoch was seen: Refusal.Epoch
	CodeForeignVolume Code = "foreign_volume" // the replica is of another volume
	CodeProtocol      Code = "protocol"       // no common version
	CodeSecondPrimary Code = "second_primary" // another primary's session lives
	CodeNotAMirror    Code = "not_a_mirror"   // it is a primary, or becomes one
	CodeNotEmpty      Code = "not_empty"      // first use, and the replica has entries
	CodeBusy          Code = "busy"           // not now
	CodeLane          Code = "lane"           // nobody serves this lane
	CodeUnknownMethod Code = "unknown_method"
)

// Refusal is a no that the other side can act on.
type Refusal struct {
	Code    Code     `json:"code"`
	Message string   `json:"message"`
	Epoch   op.Epoch `json:"epoch"` // the highest seen, where Code says so
}

func (r *Refusal) Error() string { return r.Message }

// Begin ends the primary's side of hello. Where Resume is false, any expulsion
// of this mirror is durable already (RULES.md 7, HelloExpels).
type Begin struct {
	Resume bool `json:"resume"` // the log goes on behind Answer.Resume; otherwise at Hello.Next or later
	// Met is the number of the last meeting that the primary has recorded. Whole: the
	// mirror has recorded less, so its state is a backup's or a copy. It takes down that
	// every other node is to be compared in full.
	Met    uint64 `json:"met"`
	Whole  bool   `json:"whole"`
	Policy Policy `json:"policy"`
}

// Begun says that the mirror has recorded what RULES.md 7 wants, and the number of
// this meeting.
type Begun struct {
	Met uint64 `json:"met"`
}

// Regions are a mirror's half of what a resync has to compare: its hot set and
// its map of the primary.
type Regions struct {
	Regions []Region `json:"regions"`
	More    bool     `json:"more"` // another message follows
}

// Region is a region.Mark. Paths are any bytes, hence not strings of JSON.
type Region struct {
	Path  []byte `json:"path"`
	Scope uint8  `json:"scope"`
	From  int64  `json:"from,omitempty"`
	To    int64  `json:"to,omitempty"`
}

// Policy is what a mirror needs to know to be promoted by the rules.
type Policy struct {
	MinInSync  int         `json:"min_in_sync"`
	OnShortage string      `json:"on_shortage"`
	Set        []op.NodeID `json:"set"`
	Members    []Member    `json:"members"`
	// Heartbeat is how often the primary gives a sign of life. A mirror waits
	// for three of these, or of its own if that is longer.
	Heartbeat time.Duration `json:"heartbeat"`
	// Border says which paths do not travel. A mirror that is promoted compares all
	// that there is if its own is another one.
	Border []string `json:"border,omitempty"`
}

// Mirrors is how many mirrors calls may wait for.
func (p *Policy) Mirrors() int {
	n := 0
	for _, m := range p.Members {
		if m.Mode != ModeAsync {
			n++
		}
	}
	return n
}

// Spare is how many of them a barrier can do without.
func (p *Policy) Spare() int { return p.Mirrors() - p.MinInSync }

// Member is one mirror as the primary is configured.
type Member struct {
	Node op.NodeID `json:"node"` // zero until first met
	Name string    `json:"name"`
	Addr string    `json:"addr"`
	Mode string    `json:"mode"`
}

// Modes of a member.
const (
	ModeSync  = "sync"
	ModeAsync = "async" // it follows, never joins, and nobody waits for it
)

// Kinds of reports.
const (
	ReportSuspect    = "suspect"    // an op of a resync could not be applied to what stands there
	ReportDiffer     = "differ"     // regions that a Check found to differ
	ReportNames      = "names"      // children that a Survey found to differ
	ReportDifference = "difference" // what a comparison found, in words
	ReportNew        = "new"        // a Put found nothing that it could keep, and made the object anew, or names that were of different files
)

// Report is what the mirror found at a position, before the ack that covers it.
// Paths are any bytes, hence not strings of JSON.
type Report struct {
	LSN     op.LSN   `json:"lsn"`
	Kind    string   `json:"kind"`
	Path    []byte   `json:"path"`
	Path2   []byte   `json:"path2,omitempty"`   // of a difference: the object that is different
	Regions []int64  `json:"regions,omitempty"` // offsets
	Names   [][]byte `json:"names,omitempty"`
	What    string   `json:"what,omitempty"`
}

// Heartbeat is a sign of life, in both directions.
type Heartbeat struct {
	Sent time.Time `json:"sent"` // by the sender's clock; for people
	Met  uint64    `json:"met"`  // the number of this meeting, as the sender has recorded it
}

// PrepareJoin asks a level mirror to be strict from now on and to sync its
// replica (RULES.md 10, SyncBeforeJoin).
type PrepareJoin struct{}

// Prepared is the answer: strict from Applied on, and synced up to there.
type Prepared struct {
	Applied op.LSN `json:"applied"`
	Error   string `json:"error,omitempty"`
}

// Goodbye ends a session on purpose.
type Goodbye struct {
	Reason    string    `json:"reason"`
	NotInSync bool      `json:"not_in_sync,omitempty"` // the mirror has recorded so already
	Epoch     *op.Epoch `json:"epoch,omitempty"`       // a higher epoch the sender has seen
}

// AskAnswer is what a node says of itself before a promotion (RULES.md 14,
// AskOthers).
type AskAnswer struct {
	Node      op.NodeID     `json:"node"`
	Name      string        `json:"name"`
	Volume    string        `json:"volume"`
	Epoch     op.Epoch      `json:"epoch"`
	Role      string        `json:"role"`
	InSync    bool          `json:"in_sync"`
	Set       []op.NodeID   `json:"set"`
	MinInSync int           `json:"min_in_sync"`
	Members   []Member      `json:"members"`
	Silent    time.Duration `json:"silent"` // since the primary was last heard
}

// FenceRequest asks a node to record a higher epoch before that takes effect
// (RULES.md 14, FenceOthers).
type FenceRequest struct {
	Volume string   `json:"volume"`
	Epoch  op.Epoch `json:"epoch"`
	Name   string   `json:"name"`
}

// AppendMessage appends v as a frame of kind k.
func AppendMessage(dst []byte, k Kind, v any) ([]byte, error) {
	payload, err := json.Marshal(v)
	if err != nil {
		return dst, fmt.Errorf("encode message of kind %d: %w", k, err)
	}
	if len(payload) > MaxPayload {
		return dst, fmt.Errorf("message of kind %d takes %d bytes, at most %d fit into a frame", k, len(payload), MaxPayload)
	}
	return AppendFrame(dst, Header{Kind: k}, payload), nil
}

// DecodeMessage reads the payload of a message. Fields it does not know are
// passed over, so that a newer peer may say more.
func DecodeMessage(payload []byte, v any) error {
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("%w: message: %w", ErrCorrupt, err)
	}
	return nil
}
