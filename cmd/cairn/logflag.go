package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/veltrix/cairn/internal/eventlog"
	"github.com/veltrix/cairn/internal/eventlog/redislog"
)

// A logFlag is --log of the commands that work on logs in Redis, and what goes
// with it.
type logFlag struct {
	URL string `name:"log" help:"Redis that has the logs: redis://[USER[:PASSWORD]@]HOST:PORT[,HOST:PORT…][?cluster], rediss:// for TLS. One with a password is best given as CAIRN_LOG." placeholder:"URL"`
	Ack string `help:"When an append is acknowledged: by the primary alone, by all replicas, or when it is on disk (auto: replicas where every primary has one, else primary)." enum:"auto,primary,replicas,fsync" default:"auto"`
	CA  string `name:"log-ca" help:"Certificates that sign those of a rediss:// server (PEM). Without it: the system's." placeholder:"FILE"`
}

// given reports whether --log was.
func (f logFlag) given() bool { return f.URL != "" }

// required returns what is wrong with a command line without --log.
func (f logFlag) required() error {
	if !f.given() {
		return usagef("--log: is missing; want the Redis that has the logs, such as redis://127.0.0.1:6379")
	}
	return nil
}

// tls returns how a rediss:// server is known, nil for the system's way.
func (f logFlag) tls() (*tls.Config, error) {
	if f.CA == "" {
		return nil, nil
	}
	if !strings.HasPrefix(f.URL, "rediss://") {
		return nil, usagef("--log-ca: is of use with a rediss:// URL only; --log has none")
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, usagef("--log-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usagef("--log-ca: %s has no certificate; want PEM", f.CA)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, nil
}

// open opens the logs. opts says how they are followed; its other fields are
// set here.
func (f logFlag) open(ctx context.Context, log *slog.Logger, reg prometheus.Registerer, opts redislog.Options) (*redislog.Store, error) {
	opts.Log, opts.Metrics = log, reg
	if f.Ack != "auto" {
		opts.Ack = redislog.Ack(f.Ack)
	}
	var err error
	if opts.TLS, err = f.tls(); err != nil {
		return nil, err
	}
	if err := redislog.CheckURL(f.URL); err != nil {
		return nil, usagef("--log: %w", err)
	}
	s, err := redislog.Open(ctx, f.URL, opts)
	if err != nil {
		return nil, fmt.Errorf("--log: %w", err)
	}
	return s, nil
}

// specs are the logs that a system with so many shards has.
func specs(shards int) []eventlog.Spec {
	all := []eventlog.Spec{{Name: eventlog.Maps}, {Name: eventlog.Control}, {Name: eventlog.Standings, Volatile: true}}
	for i := range shards {
		all = append(all, eventlog.Spec{Name: eventlog.Shard(i)})
	}
	return all
}

// errNotProvisioned is what a role says of logs that nobody has made.
var errNotProvisioned = errors.New("the logs are not there; cairn log init --log URL provisions them")

// provisioned returns how many shards there are, or which log is missing: a
// log that was there and is not is lost, and must not be begun anew unnoticed.
func provisioned(names []eventlog.Name) (shards int, err error) {
	if len(names) == 0 {
		return 0, errNotProvisioned
	}
	for slices.Contains(names, eventlog.Shard(shards)) {
		shards++
	}
	for _, n := range []eventlog.Name{eventlog.Maps, eventlog.Control, eventlog.Standings, eventlog.Shard(0)} {
		if !slices.Contains(names, n) {
			return 0, fmt.Errorf("log %s: %w: others are there, so it was lost: bring its data back, or start anew with cairn log reset", n, eventlog.ErrMissing)
		}
	}
	if n := countShards(names); n != shards {
		return 0, fmt.Errorf("log %s: %w: there are shards behind it, so it was lost: bring its data back, or start anew with cairn log reset", eventlog.Shard(shards), eventlog.ErrMissing)
	}
	return shards, nil
}

// countShards returns how many of the names are shards'.
func countShards(names []eventlog.Name) (n int) {
	for i := range names {
		var shard int
		if _, err := fmt.Sscanf(string(names[i]), "s%d", &shard); err == nil && eventlog.Shard(shard) == names[i] {
			n++
		}
	}
	return n
}
