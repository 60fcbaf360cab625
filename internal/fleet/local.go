package fleet

import (
	"context"
	"sync"
	"time"
)

// A Local is a registry in the memory of one process. The zero value is empty
// and ready. It judges leases by time.Now.
type Local struct {
	mu    sync.Mutex
	roles map[string]map[string]lease // role, name
}

type lease struct {
	member Member
	until  time.Time
}

var _ Registry = (*Local)(nil)

// Beat implements [Registry].
func (l *Local) Beat(_ context.Context, role string, m Member, ttl time.Duration) (renewed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.roles == nil {
		l.roles = map[string]map[string]lease{}
	}
	if l.roles[role] == nil {
		l.roles[role] = map[string]lease{}
	}
	m.Serves = append([]int(nil), m.Serves...)
	now := time.Now()
	renewed = now.Before(l.roles[role][m.Name].until)
	l.roles[role][m.Name] = lease{m, now.Add(ttl)}
	return renewed, nil
}

// Members implements [Registry].
func (l *Local) Members(_ context.Context, role string) ([]Member, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ms []Member
	for name, le := range l.roles[role] {
		if !time.Now().Before(le.until) {
			delete(l.roles[role], name)
			continue
		}
		ms = append(ms, le.member)
	}
	sortMembers(ms)
	return ms, nil
}

// Leave implements [Registry].
func (l *Local) Leave(_ context.Context, role string, m Member) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.roles[role][m.Name].member.Life == m.Life {
		delete(l.roles[role], m.Name)
	}
	return nil
}
