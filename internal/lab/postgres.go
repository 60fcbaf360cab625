//go:build unix

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Postgres is a PostgreSQL server with one superuser, cairn, one database,
// cairn, and no password.
type Postgres struct {
	*Process
	Addr string // host:port

	bin, dir, data string
	env, settings  []string
	as             *syscall.Credential
	follows        bool // another server's changes: it takes none of its own
}

// PostgresOptions says what a server is like.
type PostgresOptions struct {
	// Durable syncs to disk, as in production. Without it a server does so only
	// as far as a killed process needs, which is quicker.
	Durable bool
	// Settings are more of postgresql.conf's, such as "max_connections=300".
	Settings []string
}

// StartPostgres starts a server on a free port and waits until it answers. As
// root, it runs as the user postgres, for PostgreSQL refuses root.
func (l *Lab) StartPostgres(ctx context.Context, name string, opts PostgresOptions) (*Postgres, error) {
	bin, err := postgresBin(debian)
	if err != nil {
		return nil, err
	}
	dir, err := l.folder(name)
	if err != nil {
		return nil, err
	}
	as, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	env := []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "cairn", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir, initdb.Env, initdb.SysProcAttr = dir, env, &syscall.SysProcAttr{Credential: as}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("lab: initdb: %w\n%s", err, lastLines(out))
	}
	p := &Postgres{bin: bin, dir: dir, data: data, env: env, as: as, settings: append([]string{
		"fsync=" + onOff(opts.Durable), "shared_buffers=32MB", "max_connections=200",
	}, opts.Settings...)}
	return p, p.startIn(ctx, l, name)
}

// startIn starts a server whose data is made, on a free port.
func (p *Postgres) startIn(ctx context.Context, l *Lab, name string) error {
	for tries := 0; ; tries++ {
		port, err := freePort()
		if err != nil {
			return err
		}
		argv := []string{filepath.Join(p.bin, "postgres"), "-D", p.data}
		for _, set := range append([]string{
			"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(port), "unix_socket_directories=",
		}, p.settings...) {
			argv = append(argv, "-c", set)
		}
		p.Process, p.Addr = l.process(name, argv), loopback(port)
		p.Log, p.Process.dir, p.Process.env, p.Process.as = filepath.Join(p.dir, "log"), p.dir, p.env, p.as
		if err = p.Restart(ctx); err == nil {
			return nil
		}
		if kill := p.Kill(); kill != nil {
			return errors.Join(err, kill)
		}
		l.forget(p.Process)
		if tries == portTries || !portInUse(p.Tail(tailLines)) {
			return err
		}
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// DSN returns how to reach the database cairn.
func (p *Postgres) DSN() string { return "postgres://cairn@" + p.Addr + "/cairn" }

// Restart starts the server anew, on its port and the data that it left, and
// waits until it answers. One that runs is killed first.
func (p *Postgres) Restart(ctx context.Context) error {
	if err := p.Kill(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if err := p.Process.start(); err != nil {
			return err
		}
		var last error
		err := p.until(ctx, "answered", func() (bool, error) {
			last = p.ensure(ctx)
			return last == nil, nil
		})
		// What a killed server started may not have ended yet, and then it holds
		// the memory that the next one wants.
		memory := strings.Contains(p.Tail(3), "pre-existing shared memory block")
		switch {
		case err == nil:
			return nil
		case p.Running() || ctx.Err() != nil || !memory:
			return errors.Join(err, last)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// ensure makes the database cairn, unless it is there.
func (p *Postgres) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if p.follows {
		return p.Exec(ctx, "SELECT 1")
	}
	conn, err := pgx.Connect(ctx, "postgres://cairn@"+p.Addr+"/postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE cairn"); err != nil && !strings.Contains(err.Error(), "already exists") {
		return err
	}
	return nil
}

// Exec executes SQL as the superuser.
func (p *Postgres) Exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, p.DSN())
	if err != nil {
		return fmt.Errorf("lab: %s: %w", p.Name, err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("lab: %s: %s: %w", p.Name, sql, err)
	}
	return nil
}

// Stop ends the server as an operator does: it cuts its clients off, writes a
// checkpoint and exits (pg_ctl's mode fast; see postgres(1) for signals).
func (p *Postgres) Stop(ctx context.Context) error { return p.stop(ctx, syscall.SIGINT) }

// StopImmediately has the server exit without a checkpoint; the next start
// recovers from its write-ahead log.
func (p *Postgres) StopImmediately(ctx context.Context) error { return p.stop(ctx, syscall.SIGQUIT) }

// debian is where Debian keeps PostgreSQL's programs, off the PATH.
const debian = "/usr/lib/postgresql"

// postgresBin returns the folder of PostgreSQL's programs: that on the PATH, or
// the newest below dir.
func postgresBin(dir string) (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err != nil { // some link to a few programs only
			return "", fmt.Errorf("lab: %w", err)
		}
		return filepath.Dir(path), nil
	}
	found, _ := filepath.Glob(filepath.Join(dir, "*", "bin", "initdb"))
	if len(found) == 0 {
		return "", errors.New("lab: no PostgreSQL server: scripts/setup.sh postgres installs it (Debian: apt-get install postgresql)")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

// unprivileged returns whom the server runs as, nil for ourselves, and gives
// them its folder.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("lab: PostgreSQL refuses to run as root: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}
