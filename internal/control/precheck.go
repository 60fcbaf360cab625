package control

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/eventlog"
)

// precheck reports what is wrong with ch by itself, whatever the log holds.
func (c *Control) precheck(ctx context.Context, ch cairn.Change) error {
	set := 0
	for _, is := range []bool{ch.Create != nil, ch.State != "", ch.Shards != 0, ch.TilesPerMap != 0, ch.Knob != "", ch.Key != ""} {
		if is {
			set++
		}
	}
	if set != 1 {
		return &cairn.FieldError{Field: "change", Msg: fmt.Sprintf("sets %d of create, state, shards, tiles_per_map, knob and key; want exactly one", set)}
	}
	shards := ch.Shards
	if ch.Create != nil {
		if err := ch.Create.Validate(); err != nil {
			return err
		}
		shards = ch.Create.Shards
	}
	if shards != 0 {
		if err := c.checkShards(ctx, shards); err != nil {
			return err
		}
	}
	if ch.Create != nil && c.opts.CheckHunt != nil {
		return c.opts.CheckHunt(*ch.Create)
	}
	if ch.TilesPerMap != 0 {
		return c.checkTiles(ch)
	}
	return nil
}

// checkTiles refuses more tiles than the hunt's region has room for. What a
// region is never changes, so it is no matter how fresh the fold is.
func (c *Control) checkTiles(ch cairn.Change) error {
	h := c.Hunt(ch.Hunt)
	if h == nil || c.opts.CheckHunt == nil || ch.TilesPerMap < 1 || ch.TilesPerMap > cairn.TilesPerMapMax {
		return nil // for Check to say
	}
	next := h.Hunt
	next.TilesPerMap = ch.TilesPerMap
	return c.opts.CheckHunt(next)
}

// checkShards refuses more shards than there are logs: shards' logs are
// provisioned once, up front, and never by a hunt that asks for them.
func (c *Control) checkShards(ctx context.Context, shards int) error {
	if shards < 1 || shards > cairn.ShardsMax {
		return &cairn.FieldError{Field: "shards", Msg: fmt.Sprintf("is %d; want 1 to %d", shards, cairn.ShardsMax)}
	}
	logs, err := c.store.Logs(ctx)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	have := 0
	for slices.Contains(logs, eventlog.Shard(have)) {
		have++
	}
	if shards > have {
		return &cairn.FieldError{Field: "shards", Msg: fmt.Sprintf("is %d; want at most %d, the number that the log was provisioned for (log init --shards-max)", shards, have)}
	}
	return nil
}

// whatOf names the kind of a change, a closed set.
func whatOf(ch cairn.Change) string {
	switch {
	case ch.Create != nil:
		return "create"
	case ch.State != "":
		return "state"
	case ch.Shards != 0:
		return "shards"
	case ch.TilesPerMap != 0:
		return "tiles_per_map"
	case ch.Knob != "":
		return "knob"
	case ch.Key != "":
		return "key"
	}
	return "none"
}

// isRefusal reports whether err is the asker's fault.
func isRefusal(err error) bool {
	var field *cairn.FieldError
	return errors.As(err, &field) || errors.Is(err, cairn.ErrHuntExists) || errors.Is(err, cairn.ErrHuntUnknown) || errors.Is(err, ErrKey)
}
