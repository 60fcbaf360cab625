package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/veltrix/cairn"
)

type huntCmd struct {
	Create huntCreateCmd `cmd:"" help:"Create a hunt from a file and start it."`
	List   huntListCmd   `cmd:"" help:"List the hunts and their states."`
	Set    huntSetCmd    `cmd:"" help:"Change the shards or the tiles of a hunt's next maps."`
	Pause  huntPauseCmd  `cmd:"" help:"Stop emitting maps and taking claims, until resumed."`
	Resume huntResumeCmd `cmd:"" help:"Go on with a paused hunt, or start a draft."`
	End    huntEndCmd    `cmd:"" help:"End a hunt, at once and for ever."`
}

// An operatorAPI is where the operator's API is.
type operatorAPI struct {
	Admin string `help:"The operator's address." default:"http://127.0.0.1:8081"`
	Token string `help:"Bearer token, if the address asks for one." placeholder:"TOKEN" name:"admin-token"`
	JSON  bool   `name:"json" help:"Print JSON."`
}

type huntCreateCmd struct {
	operatorAPI
	File  string `arg:"" help:"The hunt, as YAML or JSON."`
	Draft bool   `help:"Leave it a draft; start it with cairn hunt resume."`
}

type huntListCmd struct{ operatorAPI }

type huntSetCmd struct {
	operatorAPI
	Hunt   string `arg:"" help:"Its name."`
	Shards int    `help:"Shards of its next maps."`
	Tiles  int    `name:"tiles-per-map" help:"Tiles of its next maps."`
}

type huntNamed struct {
	operatorAPI
	Hunt string `arg:"" help:"Its name."`
}

type (
	huntPauseCmd  struct{ huntNamed }
	huntResumeCmd struct{ huntNamed }
	huntEndCmd    struct{ huntNamed }
)

func (c huntCreateCmd) Run(p *program) error {
	h, err := readHunt(c.File)
	if err != nil {
		return err
	}
	body, err := c.call(p.ctx, http.MethodPost, "/admin/v1/hunts", h)
	if err != nil {
		return err
	}
	if c.Draft {
		return c.show(p, body)
	}
	return c.patch(p, string(h.Name), map[string]any{"state": cairn.Live})
}

func (c huntListCmd) Run(p *program) error {
	body, err := c.call(p.ctx, http.MethodGet, "/admin/v1/hunts", nil)
	if err != nil || c.JSON {
		return errors.Join(err, c.print(p, body))
	}
	var list struct {
		Hunts []cairn.HuntStatus `json:"hunts"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("answer of %s: %w", c.Admin, err)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tTILES A MAP\tTICK\tLIFETIME\tSHARDS\tBUDGET\tCHANGED\tBY")
	for _, h := range list.Hunts {
		fmt.Fprintf(w, "%s\t%s\t%d\t%v\t%v\t%d\t%d\t%v\t%s\n", h.Name, h.State, h.TilesPerMap, time.Duration(h.Tick), time.Duration(h.Lifetime), h.Shards, h.Reward.Budget, h.Changed, h.By)
	}
	return w.Flush()
}

func (c huntSetCmd) Run(p *program) error {
	change := map[string]any{}
	if c.Shards != 0 {
		change["shards"] = c.Shards
	}
	if c.Tiles != 0 {
		change["tiles_per_map"] = c.Tiles
	}
	if len(change) == 0 {
		return usagef("hunt set: nothing is to change; want --shards N, --tiles-per-map N or both")
	}
	return c.patch(p, c.Hunt, change)
}

func (c huntPauseCmd) Run(p *program) error  { return c.become(p, cairn.Paused) }
func (c huntResumeCmd) Run(p *program) error { return c.become(p, cairn.Live) }
func (c huntEndCmd) Run(p *program) error    { return c.become(p, cairn.Ended) }

func (c huntNamed) become(p *program, s cairn.State) error {
	return c.patch(p, c.Hunt, map[string]any{"state": s})
}

// patch changes a hunt and says what it is now.
func (c operatorAPI) patch(p *program, name string, change map[string]any) error {
	body, err := c.call(p.ctx, http.MethodPatch, "/admin/v1/hunts/"+url.PathEscape(name), change)
	if err != nil {
		return err
	}
	return c.show(p, body)
}

// show prints what a hunt is now.
func (c operatorAPI) show(p *program, body []byte) error {
	if c.JSON {
		return c.print(p, body)
	}
	var h cairn.HuntStatus
	if err := json.Unmarshal(body, &h); err != nil {
		return fmt.Errorf("answer of %s: %w", c.Admin, err)
	}
	fmt.Fprintf(p.stdout, "%s is %s, %d shards, %d tiles a map\n", h.Name, h.State, h.Shards, h.TilesPerMap)
	return nil
}

func (c operatorAPI) print(p *program, body []byte) error {
	if len(body) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(p.stdout, strings.TrimSpace(string(body)))
	return err
}

// call sends one request to the operator's API. A problem it answers is an
// error: a wrong use of the command if the request was at fault.
func (c operatorAPI) call(ctx context.Context, method, path string, in any) ([]byte, error) {
	base, err := url.Parse(c.Admin)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, usagef("--admin: is %q; want a URL such as http://127.0.0.1:8081", c.Admin)
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.Admin, "/")+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("can't reach the operator's API: %w; is cairn up running, and --admin its address?", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, huntFileMax))
	if err != nil {
		return nil, fmt.Errorf("answer of %s: %w", c.Admin, err)
	}
	if resp.StatusCode < 300 {
		return answer, nil
	}
	return nil, problemOf(resp.StatusCode, answer)
}

// problemOf turns an RFC 9457 problem into an error.
func problemOf(status int, body []byte) error {
	var p struct{ Title, Detail, Code string }
	if json.Unmarshal(body, &p) != nil || p.Detail+p.Title == "" {
		return fmt.Errorf("HTTP %d: %.200s", status, body)
	}
	detail := p.Detail
	if detail == "" {
		detail = p.Title
	}
	err := fmt.Errorf("%s (%s)", detail, p.Code)
	if status == http.StatusBadRequest || status == http.StatusUnprocessableEntity {
		return usageError{err}
	}
	return err
}
