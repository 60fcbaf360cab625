package redislog

import (
	"maps"
	"strings"
	"testing"
)

// nodesText is a reply of CLUSTER NODES, redis 7.0: two primaries with a
// replica each, of which one is down, a primary that failed and lost its slots,
// and a slot that moves.
const nodesText = `07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004,host-4 slave e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 0 1426238317239 4 connected
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-16383 [77->-e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca]
6ec23923021cf3ffec47632106199cb7f496ce01 127.0.0.1:30005@31005 slave,fail 67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 0 1426238316232 5 disconnected
824fe116063bc5fcf9f4ffd895bc17aee7731ac3 127.0.0.1:30006@31006 master,fail - 0 1426238317741 6 disconnected
e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca :30001@31001 myself,master - 0 0 1 connected 0-5459 5460
`

func TestParseNodes(t *testing.T) {
	top, err := parseNodes(nodesText, "10.0.0.9:30001")
	if err != nil {
		t.Fatal(err)
	}
	for slot, want := range map[int]string{0: "10.0.0.9:30001", 5460: "10.0.0.9:30001", 5461: "127.0.0.1:30002", 16383: "127.0.0.1:30002"} {
		if got := top.owner[slot]; got != want {
			t.Errorf("slot %d is at %q, want %q", slot, got, want)
		}
	}
	if got := strings.Join(top.primaries(), " "); got != "10.0.0.9:30001 127.0.0.1:30002" {
		t.Errorf("primaries %s", got)
	}
	if top.replicas["127.0.0.1:30002"] != 1 {
		t.Errorf("replicas %v: want the one that is down counted", top.replicas)
	}
	if top.minority {
		t.Error("two of two primaries are reached: want a majority")
	}
	// Whichever primary comes first, its replica is known to be its own.
	lines := strings.SplitAfter(strings.TrimSpace(nodesText)+"\n", "\n")
	for range lines {
		lines = append(lines[1:], lines[0])
		verbatim, err := parseNodes("txt:"+strings.Join(lines, ""), "10.0.0.9:30001")
		if err != nil || !maps.Equal(verbatim.replicas, top.replicas) {
			t.Errorf("replicas %v, %v as RESP3 has it; want %v", verbatim.replicas, err, top.replicas)
		}
	}
	cut, err := parseNodes(strings.Replace(nodesText, "2 connected 5461", "2 disconnected 5461", 1), "10.0.0.9:30001")
	if err != nil || !cut.minority {
		t.Errorf("one of two primaries is reached: minority %v, %v, want true", cut.minority, err)
	}
	for name, text := range map[string]string{
		"nobody":   "",
		"no slots": "824fe116063bc5fcf9f4ffd895bc17aee7731ac3 127.0.0.1:30006@31006 master - 0 1426238317741 6 connected\n",
		"slots":    strings.Replace(nodesText, "0-5459", "0-54590", 1),
	} {
		if _, err := parseNodes(text, "10.0.0.9:30001"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
