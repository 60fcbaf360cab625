//go:build unix

package lab

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
)

// makeKeys makes the file of secrets that all roles of a fleet share, as
// --keys wants it.
func (l *Lab) makeKeys() (string, error) {
	keys := map[string]string{"id": rand.Text()[:8]}
	for _, name := range []string{"token", "map", "puzzle"} {
		var secret [32]byte
		rand.Read(secret[:]) // never fails: crypto/rand
		keys[name] = hex.EncodeToString(secret[:])
	}
	text, err := json.MarshalIndent(keys, "", "  ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(l.Dir, "keys.json")
	return path, os.WriteFile(path, append(text, '\n'), 0o600)
}
