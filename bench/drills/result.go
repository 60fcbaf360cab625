//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/veltrix/cairn/bench/program"
	"github.com/veltrix/cairn/bench/report"
)

// verified is what of cairn verify's report is looked at.
type verified struct {
	OK         bool  `json:"ok"`
	Claims     int64 `json:"claims"`
	Rewards    int64 `json:"rewards"`
	Total      int64 `json:"violations_total"`
	Violations []struct {
		Log, Offset, What string
	} `json:"violations"`
	Ledger struct {
		Entries int64 `json:"entries"`
		Rewards int64 `json:"rewards"`
		Behind  int64 `json:"behind"`
	} `json:"ledger"`
}

// what names the first violation.
func (v *verified) what() string {
	if len(v.Violations) == 0 {
		return ""
	}
	return fmt.Sprintf("%s %s: %s", v.Violations[0].Log, v.Violations[0].Offset, v.Violations[0].What)
}

// parseVerified reads a report. That an invariant is broken is in it, and no error.
func parseVerified(out []byte, err error) (*verified, error) {
	v := new(verified)
	if json.Unmarshal(out, v) != nil {
		return nil, fmt.Errorf("cairn verify printed no report: %w", err)
	}
	return v, nil
}

// An outcome is what came of a drill.
type outcome struct {
	Name     string   `json:"name"`
	Did      string   `json:"did"`
	Saved    float64  `json:"saved_s,omitempty"`    // how long the save took
	Restored float64  `json:"restored_s,omitempty"` // from the first command of the restore until all is ready
	Claims   int64    `json:"claims"`               // at the end
	Entries  int64    `json:"entries"`              // of the ledger, at the end
	Behind   int64    `json:"behind"`               // claims that the restored ledger had to settle from the logs
	Lost     int64    `json:"lost"`                 // claims that were told after the save, and are gone
	Halted   int      `json:"halted_shards,omitempty"`
	Attempts int64    `json:"attempts,omitempty"` // decided while it was rolled
	Failed   int64    `json:"failed"`             // tries that were not decided
	Verify   string   `json:"verify"`             // what cairn verify said in the end
	Note     string   `json:"note,omitempty"`
	Missed   []string `json:"missed,omitempty"` // what did not end as the document says
}

func (r *outcome) must(ok bool, format string, args ...any) {
	if !ok {
		r.Missed = append(r.Missed, fmt.Sprintf(format, args...))
		program.Say("  MISSED: "+format, args...)
	}
}

// verified notes the last report of a drill, which must be clean: every claim
// has one entry, and Σ of both is equal.
func (r *outcome) verified(v *verified) {
	r.Claims, r.Entries, r.Verify = v.Claims, v.Ledger.Entries, "ok"
	if !v.OK {
		r.Verify = fmt.Sprintf("%d violations", v.Total)
	}
	r.must(v.OK, "cairn verify: %d violations, the first %s", v.Total, v.what())
	r.must(v.Ledger.Behind == 0 && v.Claims == v.Ledger.Entries && v.Rewards == v.Ledger.Rewards,
		"%d claims worth %d, %d entries worth %d, %d behind", v.Claims, v.Rewards, v.Ledger.Entries, v.Ledger.Rewards, v.Ledger.Behind)
	program.Say("  verify: %s, %d claims, %d entries, Σ %d and %d", r.Verify, v.Claims, v.Ledger.Entries, v.Rewards, v.Ledger.Rewards)
}

// A result is that of all drills.
type result struct {
	Machine  string     `json:"machine"`
	Commit   string     `json:"commit"`
	Command  string     `json:"command"`
	Date     string     `json:"date"`
	Took     float64    `json:"took_s"`
	Outcomes []*outcome `json:"drills"`
}

// verdict is an error if something did not end as the document says.
func (r *result) verdict() error {
	var errs []error
	for _, o := range r.Outcomes {
		for _, m := range o.Missed {
			errs = append(errs, fmt.Errorf("%s: %s", o.Name, m))
		}
	}
	return errors.Join(errs...)
}

// table is the result in Markdown.
func (r *result) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, which everything shares; commit %s; `%s`; %s, %.0f s. No replicas; times are of small data, and a test of the steps.\n\n",
		r.Machine, r.Commit, r.Command, r.Date, r.Took)
	fmt.Fprint(&b, "| drill | saved in | restored and ready in | claims at the end | entries | the restored ledger lacked | told after the save, lost | `cairn verify` |\n| --- | --: | --: | --: | --: | --: | --: | --- |\n")
	for _, o := range r.Outcomes {
		say := o.Verify
		if o.Note != "" {
			say = strings.TrimPrefix(say+"; "+o.Note, "n/a; ")
		}
		if o.Attempts > 0 {
			say += fmt.Sprintf("; %d attempts decided, %d failed", o.Attempts, o.Failed)
		}
		report.Row(&b, fmt.Sprintf("**%s**: %s", o.Name, o.Did), span(o.Saved), span(o.Restored),
			fmt.Sprint(o.Claims), fmt.Sprint(o.Entries), fmt.Sprint(o.Behind), fmt.Sprint(o.Lost), say)
	}
	return b.String()
}

// span is seconds for people, or nothing.
func span(s float64) string {
	if s == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f s", s)
}

func seconds(since time.Time) float64 { return time.Since(since).Seconds() }

// lastLine is the last line of a text.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
