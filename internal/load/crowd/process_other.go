//go:build !unix

package crowd

import "os/exec"

// filesMax returns how many files this process may have open.
func filesMax() int { return 10_000 }

func detach(*exec.Cmd) {}
