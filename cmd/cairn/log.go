package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/control"
	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
)

type logCmd struct {
	Init   logInitCmd   `cmd:"" help:"Provision the logs of a new system; of an old one, more shards."`
	Status logStatusCmd `cmd:"" help:"Show every log: where it is, how long, and up to where it is durable."`
	Reset  logResetCmd  `cmd:"" help:"Delete every log, for good."`
	ACL    logACLCmd    `cmd:"" name:"acl" help:"Print an ACL file for Redis: a user a role, with the commands that it needs."`
}

// connect opens the logs for an operator's command.
func (f logFlag) connect(p *program) (*redislog.Store, error) {
	if err := f.required(); err != nil {
		return nil, err
	}
	return f.open(p.ctx, p.log, nil, redislog.Options{})
}

type logInitCmd struct {
	logFlag
	ShardsMax int    `help:"Shards to provision: no hunt can have more." default:"64"`
	Keys      string `help:"File of the secrets that all processes share; it is made if it is not there." placeholder:"FILE"`
}

type logStatusCmd struct {
	logFlag
	JSON bool `name:"json" help:"Print JSON."`
}

type logResetCmd struct {
	logFlag
	Yes bool `help:"Do it: all hunts, claims and standings of this system are gone."`
}

type logACLCmd struct {
	Passwords string `help:"File of the roles' passwords: a line ROLE PASSWORD each, readable by its owner only. It is made, with new passwords, if it is not there." placeholder:"FILE" required:""`
}

// Run provisions what is not there. It may be run again and again.
func (c logInitCmd) Run(p *program) error {
	if c.ShardsMax < 1 || c.ShardsMax > cairn.ShardsMax {
		return usagef("--shards-max: is %d; want 1 to %d", c.ShardsMax, cairn.ShardsMax)
	}
	store, err := c.connect(p)
	if err != nil {
		return err
	}
	defer store.Close()
	names, err := store.Logs(p.ctx)
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	had := 0
	if len(names) > 0 {
		if had, err = provisioned(names); err != nil {
			return fmt.Errorf("--log: %w", err)
		}
	}
	if err := store.Provision(p.ctx, specs(max(had, c.ShardsMax))...); err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	if c.Keys != "" {
		if err := c.claimKeys(p.ctx, store); err != nil {
			return err
		}
	}
	switch {
	case had == 0:
		fmt.Fprintf(p.stdout, "provisioned %d shards, acknowledged as %s\n", c.ShardsMax, store.Ack())
	case had < c.ShardsMax:
		fmt.Fprintf(p.stdout, "provisioned %d shards more, %d in all: processes see them when they start next\n", c.ShardsMax-had, c.ShardsMax)
	default:
		fmt.Fprintf(p.stdout, "%d shards are there already\n", had)
	}
	return nil
}

// claimKeys makes the keys, if they are not there, those of the system.
func (c logInitCmd) claimKeys(ctx context.Context, store eventlog.Store) error {
	k, err := loadKeysFile(c.Keys)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	ctl, err := control.Open(ctx, store, control.Options{})
	if err != nil {
		return err
	}
	return claimKeys(ctx, ctl, k, "cairn log init", c.Keys)
}

// A logStatus is what cairn log status says of a log.
type logStatus struct {
	Name     eventlog.Name   `json:"name"`
	Node     string          `json:"node"`
	Slot     int             `json:"slot"`
	Genesis  string          `json:"genesis"`
	First    eventlog.Offset `json:"first"`
	Last     eventlog.Offset `json:"last"`
	Durable  eventlog.Offset `json:"durable"`
	Entries  int64           `json:"entries"`
	Bytes    int64           `json:"bytes"`
	Volatile bool            `json:"volatile"`
}

// Run shows what there is, and changes nothing.
func (c logStatusCmd) Run(p *program) error {
	store, err := c.connect(p)
	if err != nil {
		return err
	}
	defer store.Close()
	details, err := store.Details(p.ctx)
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	var all []logStatus
	for _, d := range details {
		all = append(all, logStatus{
			Name: d.Name, Node: d.Node, Slot: d.Slot, Genesis: fmt.Sprintf("%x", d.Genesis), First: d.First, Last: d.Last, Durable: d.Durable,
			Entries: d.Entries, Bytes: d.Bytes, Volatile: d.Volatile,
		})
	}
	if c.JSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"ack": store.Ack(), "logs": all})
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LOG\tNODE\tSLOT\tFIRST\tLAST\tDURABLE\tENTRIES\tBYTES")
	var entries, bytes int64
	for _, l := range all {
		durable := l.Durable.String()
		if l.Volatile {
			durable = "volatile"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%v\t%v\t%s\t%d\t%d\n", l.Name, l.Node, l.Slot, l.First, l.Last, durable, l.Entries, l.Bytes)
		entries, bytes = entries+l.Entries, bytes+l.Bytes
	}
	if err := w.Flush(); err != nil {
		return err
	}
	names := make([]eventlog.Name, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	if _, err := provisioned(names); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%d logs, %d entries, %d bytes, acknowledged as %s\n", len(all), entries, bytes, store.Ack())
	return nil
}

// Run deletes the logs, if it is really meant.
func (c logResetCmd) Run(p *program) error {
	store, err := c.connect(p)
	if err != nil {
		return err
	}
	defer store.Close()
	names, err := store.Logs(p.ctx)
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	if len(names) == 0 {
		fmt.Fprintln(p.stdout, "there are no logs")
		return nil
	}
	if !c.Yes {
		return usagef("--yes: is missing; %d logs with all hunts, claims and standings would be deleted, for good. Stop every process first; the ledger and checkpoints are of these logs, and of no use to new ones", len(names))
	}
	if err := store.Reset(p.ctx); err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	slices.Sort(names)
	fmt.Fprintf(p.stdout, "deleted %d logs; cairn log init provisions new ones\n", len(names))
	return nil
}
