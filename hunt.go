package cairn

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of a hunt's fields, as the public API states them.
const (
	HuntNameBytesMax = 63
	TilesPerMapMax   = 65_536
	ShardsMax        = 1024
	TickMin          = 100 * time.Millisecond
	TickMax          = time.Hour
	LifetimeMax      = time.Hour
	PlayerBytesMax   = 64
	PlayerNameMax    = 40 // characters
	RewardMax        = Micro(1_000_000_000_000)
	BudgetMax        = Micro(1_000_000_000_000_000_000)
)

// A Duration is a time.Duration whose text is Go's, such as "30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%.40q: want a duration with its unit, such as 1s or 250ms", b)
	}
	*d = Duration(v)
	return nil
}

// A Region is where a hunt's tiles lie. Exactly one field is set.
type Region struct {
	Geohash *Cell           `json:"geohash,omitempty" yaml:"geohash,omitempty"` // "" is the whole world
	BBox    []float64       `json:"bbox,omitempty" yaml:"bbox,omitempty"`       // west, south, east, north in degrees; west > east crosses ±180°
	GeoJSON json.RawMessage `json:"geojson,omitempty" yaml:"geojson,omitempty"` // a Polygon, MultiPolygon or a Feature of one (RFC 7946)
}

// A Mask says which cells of a region are valid.
type Mask string

// The masks.
const (
	MaskLand Mask = "land" // cells on land only; the default
	MaskNone Mask = "none" // every cell
)

// A Reward is a hunt's money: each tile carries Min to Max, and all claims
// together never more than Budget.
type Reward struct {
	Min    Micro `json:"min" yaml:"min"`
	Max    Micro `json:"max" yaml:"max"`
	Budget Micro `json:"budget" yaml:"budget"`
}

// A Hunt is the specification of a running event. Only Shards may change
// once it is created; the next map is born with the new number.
type Hunt struct {
	Name        HuntID             `json:"name" yaml:"name"`
	Region      Region             `json:"region" yaml:"region"`
	Mask        Mask               `json:"mask,omitempty" yaml:"mask,omitempty"`                   // "" means land
	TilesPerMap int                `json:"tiles_per_map,omitempty" yaml:"tiles_per_map,omitempty"` // 0 means 1000
	Tick        Duration           `json:"tick,omitempty" yaml:"tick,omitempty"`                   // 0 means 1s
	Lifetime    Duration           `json:"lifetime,omitempty" yaml:"lifetime,omitempty"`           // 0 means 30s
	Shards      int                `json:"shards,omitempty" yaml:"shards,omitempty"`               // 0 means 24
	Puzzles     map[PuzzleKind]int `json:"puzzles,omitempty" yaml:"puzzles,omitempty"`             // weights; none means {tap: 1}
	Reward      Reward             `json:"reward" yaml:"reward"`
}

// WithDefaults returns h with every zero field that has a default replaced.
func (h Hunt) WithDefaults() Hunt {
	if h.Mask == "" {
		h.Mask = MaskLand
	}
	if h.TilesPerMap == 0 {
		h.TilesPerMap = 1000
	}
	if h.Tick == 0 {
		h.Tick = Duration(time.Second)
	}
	if h.Lifetime == 0 {
		h.Lifetime = Duration(30 * time.Second)
	}
	if h.Shards == 0 {
		h.Shards = 24
	}
	if len(h.Puzzles) == 0 {
		h.Puzzles = map[PuzzleKind]int{Tap: 1}
	}
	return h
}

// A FieldError says which field is wrong and what would be right.
type FieldError struct {
	Field string // dotted path, as the user wrote it: "reward.max"
	Msg   string // "is -1; want 0 to 100"
}

// Error returns "field: message".
func (e *FieldError) Error() string { return e.Field + ": " + e.Msg }

// Validate reports every field of h that is out of its range, as FieldErrors
// joined. It does not look into GeoJSON beyond its being there.
func (h Hunt) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{field, fmt.Sprintf(format, args...)})
	}
	between := func(field string, v, lo, hi int64) {
		if v < lo || v > hi {
			bad(field, "is %d; want %d to %d", v, lo, hi)
		}
	}
	if err := ValidHuntID(h.Name); err != nil {
		bad("name", "%v", err)
	}
	h.Region.validate(bad)
	if h.Mask != MaskLand && h.Mask != MaskNone {
		bad("mask", "is %q; want land or none", h.Mask)
	}
	between("tiles_per_map", int64(h.TilesPerMap), 1, TilesPerMapMax)
	if d := time.Duration(h.Tick); d < TickMin || d > TickMax || d%time.Millisecond != 0 {
		bad("tick", "is %v; want %v to %v in whole milliseconds", d, TickMin, TickMax)
	}
	if d := time.Duration(h.Lifetime); d < TickMin || d > LifetimeMax || d%time.Millisecond != 0 {
		bad("lifetime", "is %v; want %v to %v in whole milliseconds", d, TickMin, LifetimeMax)
	}
	between("shards", int64(h.Shards), 1, ShardsMax)
	h.validatePuzzles(bad)
	between("reward.min", int64(h.Reward.Min), 0, int64(RewardMax))
	between("reward.max", int64(h.Reward.Max), 0, int64(RewardMax))
	between("reward.budget", int64(h.Reward.Budget), 0, int64(BudgetMax))
	if h.Reward.Min > h.Reward.Max {
		bad("reward.min", "is %d, above reward.max, %d", h.Reward.Min, h.Reward.Max)
	}
	return errors.Join(errs...)
}

func (h Hunt) validatePuzzles(bad func(field, format string, args ...any)) {
	sum := 0
	for _, k := range slices.Sorted(maps.Keys(h.Puzzles)) {
		w := h.Puzzles[k]
		if !k.Valid() || w < 0 || w > 1000 {
			bad("puzzles."+k.String(), "is %d; want a weight of 0 to 1000", w)
			continue
		}
		sum += w
	}
	if sum == 0 {
		bad("puzzles", "has no weight above 0; want at least one, such as {tap: 1}")
	}
}

func (r Region) validate(bad func(field, format string, args ...any)) {
	set := 0
	if r.Geohash != nil {
		set++
	}
	if r.BBox != nil {
		set++
		if len(r.BBox) != 4 {
			bad("region.bbox", "has %d numbers; want 4: west, south, east, north", len(r.BBox))
		} else if w, s, e, n := r.BBox[0], r.BBox[1], r.BBox[2], r.BBox[3]; !(w >= -180 && w <= 180 && e >= -180 && e <= 180 && s >= -90 && n <= 90 && s < n && w != e) {
			bad("region.bbox", "is %v; want west and east in -180 to 180, south < north in -90 to 90", r.BBox)
		}
	}
	if len(r.GeoJSON) > 0 {
		set++
	}
	if set != 1 {
		bad("region", "has %d of geohash, bbox and geojson; want exactly one", set)
	}
}

// ValidHuntID reports what is wrong with a hunt's name: 1 to 63 characters of
// a–z, 0–9 and -, beginning with a letter or digit.
func ValidHuntID(id HuntID) error {
	ok := len(id) > 0 && len(id) <= HuntNameBytesMax && id[0] != '-'
	for i := range len(id) {
		c := id[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("is %.70q; want 1 to %d characters of a-z, 0-9 and -, not beginning with -", string(id), HuntNameBytesMax)
	}
	return nil
}

// ValidPlayerName reports what is wrong with a player's name: 1 to 40
// characters of UTF-8, one of them visible, without control characters, line
// separators or surrounding white space.
func ValidPlayerName(s string) error {
	if n := utf8.RuneCountInString(s); !utf8.ValidString(s) || n < 1 || n > PlayerNameMax || strings.TrimSpace(s) != s ||
		!strings.ContainsFunc(s, visible) || strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069
	}) {
		return fmt.Errorf("is %.60q; want 1 to %d characters of UTF-8 without control characters or surrounding spaces", s, PlayerNameMax)
	}
	return nil
}

// visible reports whether r leaves ink of its own, unlike joiners and marks.
func visible(r rune) bool { return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) }

// A State is where a hunt is in its life: draft → live ⇄ paused → ended.
type State string

// The states.
const (
	Draft  State = "draft"
	Live   State = "live"
	Paused State = "paused"
	Ended  State = "ended"
)

// CanBecome reports whether a hunt may go from s to t. Staying is allowed.
func (s State) CanBecome(t State) bool {
	switch s {
	case Draft:
		return t == Draft || t == Live || t == Ended
	case Live, Paused:
		return t == Live || t == Paused || t == Ended
	}
	return s == t && s == Ended
}

// A Change is one act of an operator, a record of the control log. Exactly
// one of Create, State, Shards, TilesPerMap, Knob and Key is set.
type Change struct {
	Who  string  `json:"who"` // who asked for it
	When Instant `json:"when"`

	Hunt   HuntID `json:"hunt,omitempty"`   // which hunt; empty for Knob and Key
	Create *Hunt  `json:"create,omitempty"` // a new hunt, in state draft
	State  State  `json:"state,omitempty"`  // its new state
	Shards int    `json:"shards,omitempty"` // shards of its next maps

	TilesPerMap int `json:"tiles_per_map,omitempty"` // tiles of its next maps

	Knob  string `json:"knob,omitempty"` // a live setting by name, such as "sweep"
	Value string `json:"value,omitempty"`

	Key string `json:"key,omitempty"` // fingerprint of the keys that this system runs on
}

// acts counts what c changes.
func (c Change) acts() (n int) {
	for _, set := range [...]bool{c.Create != nil, c.State != "", c.Shards != 0, c.TilesPerMap != 0, c.Knob != "", c.Key != ""} {
		if set {
			n++
		}
	}
	return n
}

// A HuntStatus is a hunt as the control log has it.
type HuntStatus struct {
	Hunt
	State   State   `json:"state"`
	Created Instant `json:"created"`
	Changed Instant `json:"changed"`
	By      string  `json:"changed_by"`
}

// Hunts is the fold of the control log. The zero value is empty. It is a plain
// value: whoever folds it guards it.
type Hunts struct {
	byID  map[HuntID]*HuntStatus
	Knobs map[string]string
	Key   string
}

// Apply folds one change. It takes every change that [Hunts.Check] accepted
// before it was appended; others are ignored, so that all folds agree.
func (hs *Hunts) Apply(c Change) {
	if hs.Check(c) != nil {
		return
	}
	if hs.byID == nil {
		hs.byID = map[HuntID]*HuntStatus{}
		hs.Knobs = map[string]string{}
	}
	switch {
	case c.Create != nil:
		hs.byID[c.Hunt] = &HuntStatus{Hunt: *c.Create, State: Draft, Created: c.When, Changed: c.When, By: c.Who}
		return
	case c.Knob != "":
		hs.Knobs[c.Knob] = c.Value
		return
	case c.Key != "":
		hs.Key = c.Key
		return
	}
	h := *hs.byID[c.Hunt] // copied: a status that was handed out never changes
	if c.State != "" {
		h.State = c.State
	}
	if c.Shards != 0 {
		h.Shards = c.Shards
	}
	if c.TilesPerMap != 0 {
		h.TilesPerMap = c.TilesPerMap
	}
	h.Changed, h.By = c.When, c.Who
	hs.byID[c.Hunt] = &h
}

// Clone returns a copy that can be folded further by itself.
func (hs *Hunts) Clone() Hunts {
	return Hunts{byID: maps.Clone(hs.byID), Knobs: maps.Clone(hs.Knobs), Key: hs.Key}
}

// Errors of [Hunts.Check]; others are FieldErrors.
var (
	ErrHuntExists  = errors.New("a hunt of that name exists, and a name is unique for ever")
	ErrHuntUnknown = errors.New("no such hunt")
)

// Check reports why c can't follow on what hs holds: ErrHuntExists,
// ErrHuntUnknown, or FieldErrors.
func (hs *Hunts) Check(c Change) error {
	if n := c.acts(); n != 1 {
		return &FieldError{"change", fmt.Sprintf("sets %d of create, state, shards, tiles_per_map, knob and key; want exactly one", n)}
	}
	if c.Knob != "" || c.Key != "" {
		return nil
	}
	h, known := hs.byID[c.Hunt]
	if c.Create != nil {
		if known {
			return fmt.Errorf("%s: %w", c.Hunt, ErrHuntExists)
		}
		if c.Create.Name != c.Hunt {
			return &FieldError{"name", fmt.Sprintf("is %q in a change of %q", c.Create.Name, c.Hunt)}
		}
		return c.Create.Validate()
	}
	if !known {
		return fmt.Errorf("%s: %w", c.Hunt, ErrHuntUnknown)
	}
	if c.State != "" && !h.State.CanBecome(c.State) {
		return &FieldError{"state", fmt.Sprintf("is %q, which a hunt that is %s can't become", c.State, h.State)}
	}
	if c.Shards < 0 || c.Shards > ShardsMax {
		return &FieldError{"shards", fmt.Sprintf("is %d; want 1 to %d", c.Shards, ShardsMax)}
	}
	if c.TilesPerMap < 0 || c.TilesPerMap > TilesPerMapMax {
		return &FieldError{"tiles_per_map", fmt.Sprintf("is %d; want 1 to %d", c.TilesPerMap, TilesPerMapMax)}
	}
	return nil
}

// Get returns the status of a hunt, or nil. It must not be changed.
func (hs *Hunts) Get(id HuntID) *HuntStatus { return hs.byID[id] }

// All returns every hunt by name. They must not be changed.
func (hs *Hunts) All() []*HuntStatus {
	return slices.SortedFunc(maps.Values(hs.byID), func(a, b *HuntStatus) int {
		return strings.Compare(string(a.Name), string(b.Name))
	})
}
