package leaderboard

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"pgregory.net/rapid"
)

func testGenesis(shards int) map[int][16]byte {
	out := map[int][16]byte{}
	for i := range shards {
		out[i] = [16]byte{byte(i + 1)}
	}
	return out
}

// A checkpoint cut anywhere, and then the rest of the logs, is a fold from
// scratch, to the byte.
func TestCheckpointAndLogEqualsLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		shards := rapid.IntRange(1, 4).Draw(t, "shards")
		logs := testLogs(rnd, shards, rapid.IntRange(1, 50).Draw(t, "records"))
		genesis := testGenesis(shards)
		want := foldLogs(t, logs, rnd.IntN).encode(genesis)

		cut := newFold(testRules)
		rest := slices.Clone(logs)
		for i, log := range logs {
			n := rapid.IntRange(0, len(log)).Draw(t, "cut")
			for _, r := range log[:n] {
				cut.testApply(t, r)
			}
			rest[i] = log[n:]
		}
		saved := cut.encode(genesis)
		f, gotGenesis, err := decodeFold(saved, testRules)
		if err != nil {
			t.Fatal(err)
		}
		for i := range gotGenesis {
			if gotGenesis[i] != genesis[i] {
				t.Fatalf("genesis of %d: got %v, want %v", i, gotGenesis[i], genesis[i])
			}
		}
		if again := f.encode(genesis); !bytes.Equal(again, saved) {
			t.Fatal("a decoded checkpoint encodes to other bytes")
		}
		for _, log := range rest {
			for _, r := range log {
				f.testApply(t, r)
			}
		}
		if got := f.encode(genesis); !bytes.Equal(got, want) {
			t.Fatalf("checkpoint and log give another fold: %d bytes, want %d", len(got), len(want))
		}
	})
}

func testImages(t *testing.T) (older, newer []byte, folds [2]*fold) {
	logs := testLogs(rand.New(rand.NewPCG(3, 3)), 3, 40)
	folds[0] = foldLogs(t, [][]testRecord{logs[0][:20], logs[1][:20], logs[2][:20]}, func(int) int { return 0 })
	folds[1] = foldLogs(t, logs, func(int) int { return 0 })
	return folds[0].encode(testGenesis(3)), folds[1].encode(testGenesis(3)), folds
}

// Whatever step of writing a checkpoint fails, and whatever a crash then
// leaves of the folder, there is a checkpoint to start from: the one before,
// or the new one, never half of either.
func TestCheckpointCrash(t *testing.T) {
	older, newer, _ := testImages(t)
	steps := 0
	for fail := 0; ; fail++ {
		mem := vfs.NewCrashableMem()
		c := &checkpoints{fs: mem, path: "lb"}
		for _, b := range [][]byte{older, older} {
			if _, err := c.write(slices.Clone(b)); err != nil {
				t.Fatal(err)
			}
		}
		left := fail
		inj := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
				return nil
			}
			if left--; left == -1 {
				return errorfs.ErrInjected
			}
			return nil
		})
		faulty := &checkpoints{fs: errorfs.Wrap(mem, inj), path: "lb"}
		_, err := faulty.write(slices.Clone(newer))
		hit := left < 0
		for crash := range uint64(40) {
			after := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[crash%3], RNG: rand.New(rand.NewPCG(crash, 0))})
			found, _ := (&checkpoints{fs: after, path: "lb"}).starts(testRules)
			if len(found) < 2 {
				t.Fatalf("step %d failed with %v: no checkpoint is left after crash %d", fail, err, crash)
			}
			got := found[0].fold.encode(testGenesis(3))
			if !bytes.Equal(got, older) && !bytes.Equal(got, newer) {
				t.Fatalf("step %d failed with %v: what is left is neither checkpoint", fail, err)
			}
			if err == nil && !bytes.Equal(got, newer) {
				t.Fatalf("written without an error, and the older is left after crash %d", crash)
			}
		}
		if !hit {
			break
		}
		if err != nil {
			steps++
		}
	}
	if steps < 4 {
		t.Errorf("only %d steps failed: the faults were not injected", steps)
	}
}

// A checkpoint with any byte changed or any tail cut is passed over with a
// reason, and the one before it is taken.
func TestCheckpointDamage(t *testing.T) {
	older, newer, _ := testImages(t)
	rnd := rand.New(rand.NewPCG(5, 5))
	for i := range 300 {
		mem := vfs.NewMem()
		c := &checkpoints{fs: mem, path: "lb"}
		for _, b := range [][]byte{older, newer} {
			if _, err := c.write(slices.Clone(b)); err != nil {
				t.Fatal(err)
			}
		}
		bad := slices.Clone(newer)
		if i%2 == 0 {
			bad[rnd.IntN(len(bad))] ^= 1 << rnd.IntN(8)
		} else {
			bad = bad[:rnd.IntN(len(bad))]
		}
		writeFile(t, mem, "lb", bad)
		found, skipped := c.starts(testRules)
		if len(skipped) != 1 || !errors.Is(skipped[0], errCheckpoint) {
			t.Fatalf("skipped %v, want the damaged one", skipped)
		}
		if len(found) != 2 || found[0].what != "lb.prev" || !bytes.Equal(found[0].fold.encode(testGenesis(3)), older) {
			t.Fatalf("got %d starts, want the older checkpoint first", len(found))
		}
		// The damaged one never pushes out the good one.
		if rotated, err := c.write(slices.Clone(newer)); err != nil || rotated {
			t.Fatalf("write over a damaged checkpoint: rotated %v, %v", rotated, err)
		}
		if b, err := c.read("lb.prev"); err != nil || !bytes.Equal(b, older) {
			t.Fatal("the good older checkpoint is gone")
		}
	}
}

// What does not decode is refused, even with a right hash.
func FuzzDecodeFold(f *testing.F) {
	logs := testLogs(rand.New(rand.NewPCG(3, 3)), 2, 10)
	f.Add(foldLogs(f, logs, func(int) int { return 0 }).encode(testGenesis(2)))
	f.Add(newFold(testRules).encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = seal(b)
		got, genesis, err := decodeFold(b, testRules)
		if err != nil {
			if !errors.Is(err, errCheckpoint) {
				t.Fatalf("got %v, want it to wrap errCheckpoint", err)
			}
			return
		}
		got.encode(genesis)
	})
}

func TestCheckpointOfOtherDepth(t *testing.T) {
	older, _, _ := testImages(t)
	if _, _, err := decodeFold(older, rules{1, testRules.bound}); !errors.Is(err, errCheckpoint) {
		t.Errorf("got %v, want errCheckpoint", err)
	}
}

func TestNoCheckpointYet(t *testing.T) {
	c := &checkpoints{fs: vfs.NewMem(), path: "lb"}
	found, skipped := c.starts(testRules)
	if len(found) != 1 || len(skipped) != 0 {
		t.Errorf("got %d starts and %v, want the start of the logs alone", len(found), skipped)
	}
	if _, err := c.read("lb"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
}

func writeFile(t *testing.T, fsys vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fsys.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
