//go:build !linux

package broadcast

func (*loops) leftover() string { return "" }
