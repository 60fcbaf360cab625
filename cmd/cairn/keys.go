package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keys are the secrets a system runs on. Each has one use, so that a leak of
// one is not a leak of another.
type keys struct {
	ID     string `json:"id"`     // tells key sets apart in the open
	Token  secret `json:"token"`  // signs guests' tokens
	Map    secret `json:"map"`    // draws maps
	Puzzle secret `json:"puzzle"` // makes puzzles
}

// A secret is 32 random bytes, written in hexadecimal.
type secret [32]byte

func (s secret) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s[:])), nil }

func (s *secret) UnmarshalText(b []byte) error {
	if n, err := hex.Decode(s[:], b[:min(len(b), 2*len(s))]); err != nil || n != len(s) || len(b) != 2*len(s) {
		return fmt.Errorf("want %d hexadecimal digits, got %d bytes", 2*len(s), len(b))
	}
	return nil
}

// fingerprint tells one key set from another and gives none of it away.
func (k *keys) fingerprint() string {
	h := sha256.New()
	for _, s := range []secret{k.Token, k.Map, k.Puzzle} {
		h.Write(s[:])
	}
	return k.ID + ":" + hex.EncodeToString(h.Sum(nil)[:8])
}

// loadKeys reads the keys under a data folder, or makes them, once, readable
// by their owner only.
func loadKeys(dir string) (*keys, error) {
	return loadKeysFile(filepath.Join(dir, keysFile))
}

// keysFile is the file of the keys in a data folder.
const keysFile = "keys.json"

// loadKeysFile reads the keys in a file, or makes both.
func loadKeysFile(path string) (*keys, error) {
	k, err := readKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKeys(path)
	}
	return k, err
}

// readKeys reads the keys in a file.
func readKeys(path string) (*keys, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var k keys
	if err := json.Unmarshal(data, &k); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var none secret
	if k.ID == "" || k.Token == none || k.Map == none || k.Puzzle == none {
		return nil, fmt.Errorf("%s: want an id and the keys token, map and puzzle; restore it from its backup: nothing signed with the old keys can be checked with new ones", path)
	}
	return &k, nil
}

func makeKeys(path string) (*keys, error) {
	k := &keys{ID: rand.Text()[:8]}
	for _, s := range []*secret{&k.Token, &k.Map, &k.Puzzle} {
		rand.Read(s[:]) // never fails: crypto/rand
	}
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return nil, err
	}
	// Half a key file would lock the data out.
	return k, writeWhole(path, append(data, '\n'), 0o600)
}
