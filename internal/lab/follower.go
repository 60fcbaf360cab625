//go:build unix

package lab

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
)

// StartFollower starts a hot standby of a server, a copy that streams its
// write-ahead log (PostgreSQL's physical replication, asynchronous), on a free
// port, and waits until it answers. It has the settings of the other and those
// given, and takes no writes.
func (l *Lab) StartFollower(ctx context.Context, name string, of *Postgres, settings ...string) (*Postgres, error) {
	dir, err := l.folder(name)
	if err != nil {
		return nil, err
	}
	if _, err := unprivileged(dir); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(of.Addr)
	if err != nil {
		return nil, err
	}
	p := &Postgres{
		bin: of.bin, dir: dir, data: filepath.Join(dir, "data"), env: of.env, as: of.as, follows: true,
		settings: append(slices.Clone(of.settings), settings...),
	}
	// -R writes down whom to follow, and -X stream what is logged meanwhile.
	backup := exec.CommandContext(ctx, filepath.Join(p.bin, "pg_basebackup"), "-h", host, "-p", port, "-U", "cairn", "-D", p.data,
		"-R", "-X", "stream", "-c", "fast", "--no-sync")
	backup.Dir, backup.Env, backup.SysProcAttr = dir, p.env, &syscall.SysProcAttr{Credential: p.as}
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("lab: pg_basebackup: %w\n%s", err, lastLines(out))
	}
	return p, p.startIn(ctx, l, name)
}
