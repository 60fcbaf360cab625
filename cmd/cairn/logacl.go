package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/veltrix/cairn/internal/eventlog/redislog"
)

// Run prints the file on stdout. It has hashes only: the passwords go to the
// processes, in the URL of CAIRN_LOG.
func (c logACLCmd) Run(p *program) error {
	passwords, err := readPasswords(c.Passwords)
	if errors.Is(err, fs.ErrNotExist) {
		passwords, err = makePasswords(c.Passwords)
	}
	if err != nil {
		return usagef("--passwords: %w", err)
	}
	text, err := redislog.ACL("", passwords)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(p.stdout, text)
	return err
}

// readPasswords reads a file of lines ROLE PASSWORD.
func readPasswords(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	passwords := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case len(fields) != 2:
			return nil, fmt.Errorf("%s:%d: want ROLE PASSWORD", path, n)
		case !slices.Contains(redislog.ACLRoles(), fields[0]):
			return nil, fmt.Errorf("%s:%d: %q is no role; want one of %s", path, n, fields[0], strings.Join(redislog.ACLRoles(), ", "))
		default:
			passwords[fields[0]] = fields[1]
		}
	}
	return passwords, lines.Err()
}

// makePasswords writes such a file with a new password for each role.
func makePasswords(path string) (map[string]string, error) {
	passwords := map[string]string{}
	var text strings.Builder
	for _, role := range redislog.ACLRoles() {
		passwords[role] = rand.Text()
		fmt.Fprintf(&text, "%s %s\n", role, passwords[role])
	}
	return passwords, writeWhole(path, []byte(text.String()), 0o600)
}
