//go:build !linux

package crowd

func newLink(l *loop) (link, error) { return newPortableLink(l), nil }
