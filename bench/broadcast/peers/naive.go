package peers

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	amqp "github.com/rabbitmq/amqp091-go"
)

// Exchange is the fan-out exchange that deltas are published to, and the
// gateway of RabbitMQ follows.
const Exchange = "deltas"

// naiveBacklog is how many deltas wait for a client before it is cut.
const naiveBacklog = 256

// A naive is a gateway as one writes it first: every connection has a goroutine
// that reads, a channel, and a goroutine that writes what comes in it. A client
// whose channel is full is cut. It follows a queue of its own on a fan-out
// exchange.
type naive struct {
	amqp  *amqp.Connection
	queue <-chan amqp.Delivery // closed by amqp
	done  sync.WaitGroup

	mu      sync.Mutex
	clients map[*naiveClient]struct{}
}

type naiveClient struct {
	conn   net.Conn
	deltas chan []byte // closed, under the gateway's mu, when the client leaves
}

func newNaive(url string) (*naive, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, fmt.Errorf("peers: -amqp: %w", err)
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s := &naive{amqp: conn, clients: map[*naiveClient]struct{}{}}
	if s.queue, err = consume(ch); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.done.Go(func() {
		for d := range s.queue {
			s.tell(d.Body)
		}
	})
	return s, nil
}

// DeclareExchange declares the exchange, for who publishes and who follows.
func DeclareExchange(ch *amqp.Channel) error {
	return ch.ExchangeDeclare(Exchange, amqp.ExchangeFanout, false, true, false, false, nil)
}

func consume(ch *amqp.Channel) (<-chan amqp.Delivery, error) {
	if err := DeclareExchange(ch); err != nil {
		return nil, err
	}
	q, err := ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		return nil, err
	}
	if err := ch.QueueBind(q.Name, "", Exchange, false, nil); err != nil {
		return nil, err
	}
	return ch.Consume(q.Name, "", true, true, false, false, nil)
}

// ServeHTTP serves one client until it is gone.
func (s *naive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return // the client has been told
	}
	c := &naiveClient{conn: conn, deltas: make(chan []byte, naiveBacklog)}
	s.join(c)
	go c.write()
	for err == nil {
		_, _, err = wsutil.ReadClientData(conn)
	}
	s.leave(c)
	conn.Close()
}

// write writes what comes in the client's channel, until that is closed.
func (c *naiveClient) write() {
	for d := range c.deltas {
		if wsutil.WriteServerText(c.conn, d) != nil {
			c.conn.Close() // its reader sees to the rest
		}
	}
}

func (s *naive) join(c *naiveClient) {
	s.mu.Lock()
	s.clients[c] = struct{}{}
	s.mu.Unlock()
}

func (s *naive) leave(c *naiveClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, here := s.clients[c]; here {
		delete(s.clients, c)
		close(c.deltas)
	}
}

func (s *naive) tell(delta []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		select {
		case c.deltas <- delta:
		default:
			delete(s.clients, c)
			close(c.deltas)
			c.conn.Close()
		}
	}
}

// publish is not how this one hears of deltas.
func (s *naive) publish([]byte) error {
	return fmt.Errorf("peers: the gateway of RabbitMQ takes nothing from the control line; want a publish to the exchange %q", Exchange)
}

func (s *naive) close() error {
	err := s.amqp.Close()
	s.done.Wait()
	if errors.Is(err, amqp.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
