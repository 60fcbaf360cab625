package redissim

import "strings"

// A Kind says what a Reply is.
type Kind uint8

// The kinds of RESP2 that a Server answers with.
const (
	Nil    Kind = iota // the null of a missing key, a refused XADD or an EXEC that did not happen
	Int                // Reply.Int
	Status             // Reply.Text, such as OK
	Bulk               // Reply.Text, any bytes
	Error              // Reply.Text: a code, a space, and a sentence
	Array              // Reply.List
)

// A Reply is what a command was answered with.
type Reply struct {
	Kind Kind
	Int  int64
	Text string
	List []Reply
}

// Code returns the first word of an error, and "" of any other reply.
func (r Reply) Code() string {
	if r.Kind != Error {
		return ""
	}
	code, _, _ := strings.Cut(r.Text, " ")
	return code
}

func integer(n int) Reply       { return Reply{Kind: Int, Int: int64(n)} }
func status(text string) Reply  { return Reply{Kind: Status, Text: text} }
func bulk(text string) Reply    { return Reply{Kind: Bulk, Text: text} }
func failure(text string) Reply { return Reply{Kind: Error, Text: text} }
func array(list ...Reply) Reply { return Reply{Kind: Array, List: list} }

// What Redis 7 says, word for word: redislog tells errors apart by it.
var (
	errSyntax   = failure("ERR syntax error")
	errNumber   = failure("ERR value is not an integer or out of range")
	errType     = failure("WRONGTYPE Operation against a key holding the wrong kind of value")
	errID       = failure("ERR Invalid stream ID specified as stream command argument")
	errZeroID   = failure("ERR The ID specified in XADD must be greater than 0-0")
	errTop      = failure("ERR The ID specified in XADD is equal or smaller than the target stream top item")
	errFull     = failure("ERR The stream has exhausted the last possible ID, unable to add more items")
	errReadOnly = failure("READONLY You can't write against a read only replica.")
	errOOM      = failure("OOM command not allowed when used memory > 'maxmemory'.")
	errReplicas = failure("NOREPLICAS Not enough good replicas to write.")
	errAborted  = failure("EXECABORT Transaction discarded because of previous errors.")
	errWait     = failure("ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.")
)

func errArgs(name string) Reply {
	return failure("ERR wrong number of arguments for '" + name + "' command")
}
