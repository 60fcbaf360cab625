package crowd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
)

// A request is a line that a worker is sent.
type request struct {
	ID        uint64   `json:"id"`
	Do        string   `json:"do"`
	Options   *Options `json:"options,omitempty"` // open
	Number    int      `json:"number,omitempty"`  // open: the worker's, from 1
	N         int      `json:"n,omitempty"`       // grow, stall
	PerSecond float64  `json:"per_second,omitempty"`
	Of        uint64   `json:"of,omitempty"` // cancel: which request
}

// What a worker may be asked to do. It ends when there is nothing more to read.
const (
	doOpen   = "open"
	doGrow   = "grow"
	doCancel = "cancel"
	doStall  = "stall"
	doResume = "resume"
	doDrop   = "drop"
	doRead   = "read"
)

// An answer is a line that a worker sends.
type answer struct {
	ID    uint64 `json:"id"`
	Error string `json:"error,omitempty"`
	N     int    `json:"n,omitempty"`
	Stats *Stats `json:"stats,omitempty"`
}

// A worker is a process that carries part of a crowd.
type worker struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan struct{} // closed when its answers end

	mu      sync.Mutex
	enc     *json.Encoder // to in
	next    uint64
	waiting map[uint64]chan answer // nil once its answers ended
}

var errWorkerGone = errors.New("crowd: a worker process ended by itself")

// startWorker starts a process that connects from a loopback address of its
// own, so that there are ports enough.
func startWorker(ctx context.Context, opts Options, number int) (part, error) {
	w := &worker{waiting: map[uint64]chan answer{}, ended: make(chan struct{})}
	// Not CommandContext: it lives on after ctx, until close.
	w.cmd = exec.Command(opts.Worker[0], opts.Worker[1:]...)
	w.cmd.Stderr = os.Stderr
	detach(w.cmd)
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.enc = json.NewEncoder(w.in)
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("crowd: worker: %w", err)
	}
	go w.listen(out)
	opts.Targets = opts.targetsOf(number)
	if _, err := w.ask(ctx, request{Do: doOpen, Options: &opts, Number: number}); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// listen takes answers until there are no more.
func (w *worker) listen(out io.Reader) {
	defer close(w.ended)
	dec := json.NewDecoder(out)
	for {
		var a answer
		if dec.Decode(&a) != nil {
			break
		}
		w.mu.Lock()
		ch := w.waiting[a.ID]
		delete(w.waiting, a.ID)
		w.mu.Unlock()
		if ch != nil {
			ch <- a
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.waiting {
		close(ch)
	}
	w.waiting = nil
}

// ask sends a request and waits for its answer. When ctx ends before, the
// worker is told, and its answer waited for.
func (w *worker) ask(ctx context.Context, r request) (answer, error) {
	id, ch, err := w.send(r)
	if err != nil {
		return answer{}, err
	}
	var a answer
	var ok bool
	select {
	case a, ok = <-ch:
	case <-ctx.Done():
		if _, _, err := w.send(request{Do: doCancel, Of: id}); err == nil {
			a, ok = <-ch
		}
	}
	switch {
	case !ok:
		return a, errWorkerGone
	case a.Error != "" && ctx.Err() != nil:
		return a, context.Cause(ctx)
	case a.Error != "":
		return a, errors.New(a.Error)
	}
	return a, nil
}

func (w *worker) send(r request) (uint64, chan answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		return 0, nil, errWorkerGone
	}
	w.next++
	r.ID = w.next
	ch := make(chan answer, 1)
	if r.Do != doCancel {
		w.waiting[r.ID] = ch
	}
	return r.ID, ch, w.enc.Encode(r)
}

func (w *worker) grow(ctx context.Context, n int, perSecond float64) error {
	_, err := w.ask(ctx, request{Do: doGrow, N: n, PerSecond: perSecond})
	return err
}

func (w *worker) stall(n int) (int, error) {
	a, err := w.ask(context.Background(), request{Do: doStall, N: n})
	return a.N, err
}

func (w *worker) resume() error { return w.simply(doResume) }

func (w *worker) dropAll() error { return w.simply(doDrop) }

func (w *worker) simply(do string) error {
	_, err := w.ask(context.Background(), request{Do: do})
	return err
}

func (w *worker) read() (*Stats, error) {
	a, err := w.ask(context.Background(), request{Do: doRead})
	return a.Stats, err
}

// close ends the process by ending its input, and waits for it.
func (w *worker) close() error {
	w.in.Close()
	<-w.ended
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("crowd: worker: %w", err)
	}
	return nil
}

// Work is a worker process: it does what in says, a JSON object a line, answers
// on out, and returns when in ends. Nothing else may write to out.
func Work(in io.Reader, out io.Writer) error {
	x := &work{enc: json.NewEncoder(out), cancels: map[uint64]context.CancelFunc{}}
	ctx, stop := context.WithCancel(context.Background())
	dec := json.NewDecoder(in)
	var err error
	for {
		var r request
		if err = dec.Decode(&r); err != nil {
			break
		}
		x.take(ctx, &r)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	stop()
	x.all.Wait()
	if x.loop != nil {
		err = errors.Join(err, x.loop.close())
	}
	return err
}

// A work is the inside of a worker process.
type work struct {
	loop *loop // nil before open
	all  sync.WaitGroup

	mu      sync.Mutex
	enc     *json.Encoder
	cancels map[uint64]context.CancelFunc
}

var errNotOpen = errors.New("crowd: worker: was not opened")

// take does what a request asks. What takes time is done meanwhile.
func (x *work) take(ctx context.Context, r *request) {
	if r.Do == doCancel {
		x.mu.Lock()
		defer x.mu.Unlock()
		if cancel := x.cancels[r.Of]; cancel != nil {
			cancel()
		}
		return
	}
	if r.Do == doGrow && x.loop != nil {
		ctx, cancel := context.WithCancel(ctx)
		x.mu.Lock()
		x.cancels[r.ID] = cancel
		x.mu.Unlock()
		x.all.Go(func() {
			err := x.loop.grow(ctx, r.N, r.PerSecond)
			x.mu.Lock()
			delete(x.cancels, r.ID)
			x.mu.Unlock()
			cancel()
			x.answer(answer{ID: r.ID}, err)
		})
		return
	}
	a, err := x.do(r)
	a.ID = r.ID
	x.answer(a, err)
}

func (x *work) do(r *request) (a answer, err error) {
	if x.loop == nil && r.Do != doOpen {
		return a, errNotOpen
	}
	switch r.Do {
	case doOpen:
		if x.loop != nil || r.Options == nil {
			return a, errors.New("crowd: worker: is open, or has no options")
		}
		x.loop, err = newLoop(*r.Options, r.Number)
	case doStall:
		a.N, err = x.loop.stall(r.N)
	case doResume:
		err = x.loop.resume()
	case doDrop:
		err = x.loop.dropAll()
	case doRead:
		a.Stats, err = x.loop.read()
	default:
		err = fmt.Errorf("crowd: worker: can't %q", r.Do)
	}
	return a, err
}

func (x *work) answer(a answer, err error) {
	if err != nil {
		a.Error = err.Error()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	_ = x.enc.Encode(a) // who is gone is not missed: the input ends too
}
