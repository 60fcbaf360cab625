package peers

import (
	"context"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"
)

// Channel is the one channel that clients of centrifuge subscribe to.
const Channel = "deltas"

// A centrifugeNode is one node of the centrifuge library with its broker in
// memory. It is tuned as its documentation has it for many connections that
// mostly listen: commands off the read loop (half the stack of an idle
// connection), small buffers and a pool of them for writes, no history, no
// recovery, no presence.
type centrifugeNode struct {
	*centrifuge.WebsocketHandler
	node *centrifuge.Node
}

// newCentrifuge starts a node. writeDelay is how long it gathers messages for a
// connection before it writes them; then a timer writes, and no connection has
// a goroutine for that.
func newCentrifuge(writeDelay time.Duration) (*centrifugeNode, error) {
	node, err := centrifuge.New(centrifuge.Config{
		// Nobody asks for presence, so nothing has to be kept fresh.
		ClientPresenceUpdateInterval: time.Hour,
	})
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials: &centrifuge.Credentials{},
			WriteDelay:  writeDelay, WriteWithTimer: writeDelay > 0,
			ReplyWithoutQueue: true, QueueInitialCap: 1,
		}, nil
	})
	node.OnConnect(func(c *centrifuge.Client) {
		c.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			done(centrifuge.SubscribeReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return nil, err
	}
	return &centrifugeNode{
		WebsocketHandler: centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
			CheckOrigin:                func(*http.Request) bool { return true },
			ReadBufferSize:             512,
			WriteBufferSize:            1024,
			UseWriteBufferPool:         true,
			ProcessCommandsOffReadLoop: true,
		}),
		node: node,
	}, nil
}

func (s *centrifugeNode) publish(payload []byte) error {
	_, err := s.node.Publish(Channel, payload)
	return err
}

func (s *centrifugeNode) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return s.node.Shutdown(ctx)
}
