package redislog

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// A target is what a URL says.
type target struct {
	tls                bool
	cluster            bool
	addrs              []string // host:port
	username, password string
	db                 int
}

// name returns what a message may say of t: no password.
func (t target) name() string { return strings.Join(t.addrs, ",") }

// parseURL parses redis://[user[:password]@]host[:port][,host[:port]…][/db][?cluster].
// It never repeats the URL in an error, for there may be a password in it.
func parseURL(s string) (target, error) {
	bad := func(what string) (target, error) {
		return target{}, fmt.Errorf("redislog: URL: %s: want redis://[user[:password]@]host:port[,host:port][/db][?cluster], or rediss://", what)
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || scheme != "redis" && scheme != "rediss" {
		return bad("unknown scheme")
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user, hosts := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, hosts = authority[:i+1], authority[i+1:]
	}
	// A URL has one host; the list is taken apart by hand.
	u, err := url.Parse(scheme + "://" + user + "host" + tail)
	if err != nil {
		return bad("not a URL")
	}
	t := target{tls: scheme == "rediss", username: u.User.Username()}
	t.password, _ = u.User.Password()
	for _, h := range strings.Split(hosts, ",") {
		if h == "" {
			return bad("no host")
		}
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), "6379")
		}
		t.addrs = append(t.addrs, h)
	}
	for k, v := range u.Query() {
		if k != "cluster" || v[0] != "" && v[0] != "true" {
			return bad(fmt.Sprintf("unknown parameter %.20q", k))
		}
		t.cluster = true
	}
	if db := strings.Trim(u.Path, "/"); db != "" {
		if t.db, err = strconv.Atoi(db); err != nil || t.db < 0 {
			return bad("the database is not a number")
		}
	}
	if t.cluster && t.db != 0 {
		return bad("a Cluster has one database")
	}
	if !t.cluster && len(t.addrs) > 1 {
		return bad("several hosts are of a Cluster")
	}
	return t, nil
}

// CheckURL returns why Open can't know what url means. The error does not
// repeat url.
func CheckURL(url string) error {
	_, err := parseURL(url)
	return err
}
