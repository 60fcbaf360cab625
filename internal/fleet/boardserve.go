package fleet

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/veltrix/cairn"
	"github.com/veltrix/cairn/internal/fleet/fleetpb"
	"github.com/veltrix/cairn/internal/fleet/fleetpb/fleetpbconnect"
	"github.com/veltrix/cairn/internal/wire"
)

// checkpointChunkBytes is how much of a checkpoint one message carries.
const checkpointChunkBytes = 256 << 10

// A BoardSource has standings in the memory of this process: a
// *leaderboard.Projection. Its methods may be called concurrently.
type BoardSource interface {
	// Standings and Around return a board and how old it is; Around a nil
	// board if the player has no claim on it. A cairn.FieldError says why
	// there can be no such board.
	Standings(ctx context.Context, key wire.BoardKey, limit int) (*wire.Board, time.Duration, error)
	Around(ctx context.Context, key wire.BoardKey, player cairn.PlayerID, n int) (*wire.Board, time.Duration, error)

	// Checkpoint opens the newest snapshot on disk; fs.ErrNotExist if there is
	// none.
	Checkpoint(ctx context.Context) (io.ReadCloser, error)
}

// BoardsHandler returns what gateways and peers call of a leaderboard process.
// It needs HTTP/2, with or without TLS ([Server]).
func BoardsHandler(src BoardSource) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(fleetpbconnect.NewBoardsHandler(boardsRPC{src},
		connect.WithCompression("gzip", nil, nil), connect.WithReadMaxBytes(64<<10)))
	return mux
}

// A boardsRPC is a BoardSource as others call it.
type boardsRPC struct{ src BoardSource }

// Board implements [fleetpbconnect.BoardsHandler].
func (r boardsRPC) Board(ctx context.Context, req *fleetpb.BoardRequest) (*fleetpb.BoardReply, error) {
	key, err := boardKeyOf(req)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	var board *wire.Board
	var lag time.Duration
	if req.Player != nil {
		board, lag, err = r.src.Around(ctx, key, cairn.PlayerID(*req.Player), int(req.Around))
	} else {
		board, lag, err = r.src.Standings(ctx, key, int(req.Limit))
	}
	if err == nil {
		return boardReply(board, lag), nil
	}
	var field *cairn.FieldError
	if errors.As(err, &field) {
		return &fleetpb.BoardReply{Refused: &fleetpb.FieldError{Field: field.Field, Message: field.Msg}}, nil
	}
	return nil, connect.NewError(connect.CodeUnavailable, err)
}

// Checkpoint implements [fleetpbconnect.BoardsHandler].
func (r boardsRPC) Checkpoint(ctx context.Context, _ *fleetpb.CheckpointRequest, stream *connect.ServerStream[fleetpb.CheckpointChunk]) error {
	f, err := r.src.Checkpoint(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return connect.NewError(connect.CodeNotFound, errors.New("there is no checkpoint yet"))
	case err != nil:
		return connect.NewError(connect.CodeUnavailable, err)
	}
	defer f.Close()
	buf := make([]byte, checkpointChunkBytes)
	for {
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			if err := stream.Send(&fleetpb.CheckpointChunk{Data: buf[:n]}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return connect.NewError(connect.CodeUnavailable, err)
		}
	}
}

func boardRequest(key wire.BoardKey) *fleetpb.BoardRequest {
	return &fleetpb.BoardRequest{Hunt: string(key.Hunt), Window: uint32(key.Window), Hour: key.Hour, Region: key.Region.String()}
}

func boardKeyOf(req *fleetpb.BoardRequest) (wire.BoardKey, error) {
	key := wire.BoardKey{Hunt: cairn.HuntID(req.Hunt), Window: wire.Window(req.Window), Hour: req.Hour}
	if req.Window > uint32(wire.WindowHour) {
		return key, errors.New("unknown window")
	}
	var err error
	key.Region, err = cairn.ParseCell(req.Region)
	return key, err
}

func boardReply(b *wire.Board, lag time.Duration) *fleetpb.BoardReply {
	reply := &fleetpb.BoardReply{LagUs: lag.Microseconds()}
	if b != nil {
		reply.Board = wire.AppendBoard(nil, b)
		if len(b.Rows) > 0 {
			reply.First = uint32(b.Rows[0].Rank)
		}
	}
	return reply
}

// boardOf is what boardReply was made of.
func boardOf(reply *fleetpb.BoardReply) (*wire.Board, time.Duration, error) {
	if r := reply.Refused; r != nil {
		return nil, 0, &cairn.FieldError{Field: r.Field, Msg: r.Message}
	}
	lag := time.Duration(reply.LagUs) * time.Microsecond
	if len(reply.Board) == 0 {
		return nil, lag, nil
	}
	b, err := wire.DecodeBoard(reply.Board)
	if err != nil {
		return nil, 0, err
	}
	for i := range b.Rows {
		b.Rows[i].Rank = int(reply.First) + i
	}
	return b, lag, nil
}
