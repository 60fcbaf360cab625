// Package web is the player page: built by Vite from src, committed in dist,
// and embedded, so that a cairn binary needs no Node and no other file.
//
// The page asks nothing of any other host: fonts, land and workers all come
// from dist. What its bytes need of a Content-Security-Policy is in README.md.
package web

import "embed"

// Dist is the built page, rooted at "dist": index.html, and under assets what
// it loads, with a digest of its content in each name.
//
//go:embed all:dist
var Dist embed.FS
