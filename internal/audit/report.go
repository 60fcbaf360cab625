package audit

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// A Report is what Verify found. It is whole when Verify returns it.
type Report struct {
	OK       bool      `json:"ok"` // no violation
	Began    time.Time `json:"began"`
	TookMS   int64     `json:"took_ms"`
	Restarts int       `json:"restarts"` // how often all was read again, since a log was rolled back under it

	Logs    int         `json:"logs"`    // logs read
	Records int64       `json:"records"` // records read, of all kinds
	Hunts   int         `json:"hunts"`
	Maps    int         `json:"maps"`
	Claims  int64       `json:"claims"`  // claims in the shards' logs
	Rewards cairn.Micro `json:"rewards"` // Σ of the claims that hold their tile

	Ledger *LedgerReport `json:"ledger,omitempty"` // nil without a ledger

	// Verified says of each log how far, in the order of Violations.
	Verified []Reach `json:"verified"`

	// Violations is the first of them in order: control, maps, shards, ledger,
	// and by offset. Total counts all.
	Violations []Violation `json:"violations"`
	Total      int64       `json:"violations_total"`

	// NotVerified says, a sentence each, what the data could not show.
	NotVerified []string `json:"not_verified"`
}

// LedgerReport is what Verify found in the ledger.
type LedgerReport struct {
	Entries int64       `json:"entries"`
	Rewards cairn.Micro `json:"rewards"` // Σ of the entries
	Players int64       `json:"players"`
	Settled int         `json:"settled_shards"` // shards of which something is settled
	Behind  int64       `json:"behind"`         // claims in the logs that are not settled yet
}

// A Reach says how much of a log was verified: After < the records ≤ To ≤ Read.
type Reach struct {
	Log     string          `json:"log"`
	After   eventlog.Offset `json:"after"`   // records up to here were trimmed; zero if none were
	To      eventlog.Offset `json:"to"`      // verified up to here: read, and durable unless the log is volatile
	Read    eventlog.Offset `json:"read"`    // records behind To were read too, but a failover may take them
	Settled eventlog.Offset `json:"settled"` // a shard's: up to here it is held against the ledger; zero if there is none
}

// A Violation is one thing that can't be, were every rule kept.
type Violation struct {
	Log    string `json:"log"`              // "s07", "maps", "control", "standings", "ledger" or "store"
	Offset string `json:"offset,omitempty"` // a record's "3-15", a claim's "7/3-15/4", or empty
	What   string `json:"what"`             // one sentence
}

// String returns the violation as one line.
func (v Violation) String() string {
	if v.Offset == "" {
		return v.Log + ": " + v.What
	}
	return v.Log + " " + v.Offset + ": " + v.What
}

// OfError returns the report of a store or ledger that could not be opened:
// one violation, which is err. Its text names the file.
func OfError(err error) *Report {
	return &Report{Began: time.Now().UTC(), Verified: []Reach{}, Violations: []Violation{{Log: "store", What: err.Error()}}, Total: 1, NotVerified: []string{}}
}

// WriteText writes r for a terminal.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "began    %s, took %.1f s", r.Began.Format(time.RFC3339), float64(r.TookMS)/1000)
	if r.Restarts > 0 {
		fmt.Fprintf(&b, ", begun anew %d times since a log was rolled back", r.Restarts)
	}
	fmt.Fprintf(&b, "\nlogs     %d with %d records\n", r.Logs, r.Records)
	fmt.Fprintf(&b, "hunts    %d with %d maps\n", r.Hunts, r.Maps)
	fmt.Fprintf(&b, "claims   %d worth %d\n", r.Claims, r.Rewards)
	if l := r.Ledger; l != nil {
		fmt.Fprintf(&b, "ledger   %d entries worth %d of %d players; %d claims not settled yet\n", l.Entries, l.Rewards, l.Players, l.Behind)
	}
	r.writeVerified(&b)
	for _, s := range r.NotVerified {
		fmt.Fprintf(&b, "not verified: %s\n", s)
	}
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "VIOLATION %s\n", v)
	}
	if more := r.Total - int64(len(r.Violations)); more > 0 {
		fmt.Fprintf(&b, "and %d more\n", more)
	}
	if r.OK {
		b.WriteString("ok: every invariant holds\n")
	} else {
		fmt.Fprintf(&b, "FAILED: %d violations\n", r.Total)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// lineMax is where a line of offsets ends.
const lineMax = 100

// writeVerified writes how far each log was verified, those that follow each
// other and are as far in one.
func (r *Report) writeVerified(b *strings.Builder) {
	line := "verified up to"
	for i := 0; i < len(r.Verified); {
		first, n := r.Verified[i], 1
		_, isShard := shardID(eventlog.Name(first.Log))
		for isShard && i+n < len(r.Verified) && r.Verified[i+n].To == first.To {
			n++
		}
		i += n
		item := first.Log
		if n > 1 {
			item += "…" + r.Verified[i-1].Log
		}
		item += " " + first.To.String()
		if i < len(r.Verified) {
			item += ","
		}
		if len(line)+len(item) >= lineMax {
			fmt.Fprintln(b, line)
			line = "        "
		}
		line += " " + item
	}
	if len(r.Verified) > 0 {
		fmt.Fprintln(b, line)
	}
}

// String returns what WriteText writes.
func (r *Report) String() string {
	var b strings.Builder
	_ = r.WriteText(&b) // a Builder never fails
	return b.String()
}

// keptMax bounds the violations that are kept to be sorted.
const keptMax = 10_000

// findings collects violations from several goroutines.
type findings struct {
	mu          sync.Mutex
	kept        []finding
	total       int64
	notVerified []string
}

type finding struct {
	Violation
	place cairn.Place // sorts it within its log
}

// at notes a violation at a record.
func (f *findings) at(log eventlog.Name, o eventlog.Offset, format string, args ...any) {
	f.add(string(log), o.String(), cairn.Place{Epoch: o.Epoch, Seq: o.Seq}, format, args...)
}

// claim notes a violation at a claim.
func (f *findings) claim(log eventlog.Name, p cairn.Place, format string, args ...any) {
	f.add(string(log), p.String(), p, format, args...)
}

// of notes a violation that has no offset.
func (f *findings) of(log string, format string, args ...any) {
	f.add(log, "", cairn.Place{}, format, args...)
}

func (f *findings) add(log, offset string, p cairn.Place, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total++
	if len(f.kept) < keptMax {
		f.kept = append(f.kept, finding{Violation{log, offset, fmt.Sprintf(format, args...)}, p})
	}
}

// skip notes what can't be verified.
func (f *findings) skip(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notVerified = append(f.notVerified, fmt.Sprintf(format, args...))
}

// into puts the findings in order into r, at most listMax violations.
func (f *findings) into(r *Report, listMax int) {
	slices.SortStableFunc(f.kept, func(a, b finding) int {
		return cmp.Or(cmp.Compare(rank(a.Log), rank(b.Log)), cmp.Compare(a.Log, b.Log),
			cmp.Compare(a.place.Shard, b.place.Shard), cmp.Compare(a.place.Epoch, b.place.Epoch),
			cmp.Compare(a.place.Seq, b.place.Seq), cmp.Compare(a.place.Index, b.place.Index))
	})
	r.Violations = []Violation{}
	for _, x := range f.kept[:min(len(f.kept), listMax)] {
		r.Violations = append(r.Violations, x.Violation)
	}
	r.Total = f.total
	r.OK = f.total == 0
	slices.Sort(f.notVerified)
	r.NotVerified = append([]string{}, f.notVerified...)
}

// byRank compares logs as the data flows.
func byRank(a, b eventlog.Name) int {
	return cmp.Or(cmp.Compare(rank(string(a)), rank(string(b))), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// rank orders logs as the data flows.
func rank(log string) int {
	switch log {
	case "store":
		return 0
	case string(eventlog.Control):
		return 1
	case string(eventlog.Maps):
		return 2
	case string(eventlog.Standings):
		return 4
	case "ledger":
		return 5
	}
	return 3
}
