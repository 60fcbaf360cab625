package server

import (
	"net/http"
	"strconv"
)

// getHealth says that the process answers.
func (s *Server) getHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = headerJSON
	w.Write([]byte(`{"status":"ok"}`))
}

// getReady says whether this process may be sent players, and what keeps it
// from that. It asks every check each time: they are cheap, and a probe's
// answer must not be old.
func (s *Server) getReady(w http.ResponseWriter, _ *http.Request) {
	ready := !s.draining()
	b := []byte(`"checks":[`)
	add := func(name string, err error, advisory bool) {
		if b[len(b)-1] != '[' {
			b = append(b, ',')
		}
		b = appendText(append(b, `{"name":`...), name)
		b = strconv.AppendBool(append(b, `,"ready":`...), err == nil)
		if err != nil {
			b = appendText(append(b, `,"detail":`...), err.Error())
		}
		b = strconv.AppendBool(append(b, `,"advisory":`...), advisory)
		b = append(b, '}')
	}
	if s.draining() {
		add("server", errDraining, false)
	}
	for _, c := range s.opts.Ready {
		err := c.Ready()
		ready = ready && (err == nil || c.Advisory)
		add(c.Name, err, c.Advisory)
	}
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	w.Header()["Content-Type"] = headerJSON
	w.WriteHeader(status)
	out := strconv.AppendBool([]byte(`{"ready":`), ready)
	w.Write(append(append(append(out, ','), b...), "]}"...))
}
