package main

import (
	"archive/tar"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"connectrpc.com/connect"
	"github.com/cenkalti/backoff/v5"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func newBackup(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Take a copy of the log while the node runs",
		Long: `Take a copy of the log, as a tar file, while the node runs. It holds everything
that was acknowledged before the command began. FILE appears when it is whole,
in place of one of that name, or of the one that a symlink of that name leads
to; a device or a named pipe is written to as it is. "-" is standard output.

Unpacked in an empty directory it is the data directory of a new node, which
makes its state and keys anew: tar -xf FILE -C DIR && dalvdb serve --data DIR`,
		Example: `  dalvdb backup dalvdb.tar
  dalvdb backup - | zstd > dalvdb.tar.zst`,
		Args: wantArgs(1, "FILE"),
	}
	flags := a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkTarget(args[0]); err != nil {
			return err
		}
		body, err := flags.openBackup(cmd.Context())
		if err != nil {
			return err
		}
		defer body.Close()
		var size int64
		take := func(w io.Writer) error {
			size, err = copyBackup(w, body)
			return err
		}
		if args[0] == "-" {
			return take(a.out)
		}
		if err := writeFile(args[0], take); err != nil {
			return err
		}
		if a.output == "json" {
			raw, err := json.Marshal(map[string]any{"file": args[0], "bytes": size})
			if err != nil {
				return err
			}
			return a.printLine(raw)
		}
		_, err = fmt.Fprintf(a.out, "%s %s\n", args[0], humanize.IBytes(uint64(size)))
		return err
	}
	return cmd
}

// openBackup asks the node for a backup, again while it is unavailable.
func (c *clientFlags) openBackup(ctx context.Context) (io.ReadCloser, error) {
	// A backup is no call of the client, which looks at the flags all the same.
	if _, err := c.open(); err != nil {
		return nil, err
	}
	credential, err := c.credential()
	if err != nil {
		return nil, err
	}
	address, err := url.JoinPath(c.url, "backup")
	if err != nil {
		return nil, usageError("--url: %w", err)
	}
	ctx, p := c.waitLimit(ctx)
	try := func() (io.ReadCloser, error) {
		body, err := requestBackup(ctx, address, credential)
		var untrusted *tls.CertificateVerificationError
		if connect.CodeOf(err) != connect.CodeUnavailable || c.timeout <= 0 || errors.As(err, &untrusted) || plainPort(err) {
			return body, backoff.Permanent(err)
		}
		return nil, err
	}
	body, err := backoff.Retry(ctx, try, backoff.WithMaxElapsedTime(c.timeout), backoff.WithNotify(c.notice))
	if err != nil {
		err = c.explain(ctx, err)
		p.end()
		return nil, err
	}
	p.pause()
	return &patientBody{body, p, func(err error) error { return c.explain(ctx, err) }}, nil
}

func requestBackup(
	ctx context.Context, address string, credential func(context.Context) (string, error),
) (io.ReadCloser, error) {
	token, err := credential(ctx)
	if err != nil {
		return nil, &exitError{code: exitDenied, err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, usageError("--url: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		return nil, statusError(res)
	}
	return res.Body, nil
}

// statusError returns what an answer that is no backup says.
func statusError(res *http.Response) error {
	code := connect.CodeInternal
	switch res.StatusCode {
	case http.StatusUnauthorized:
		code = connect.CodeUnauthenticated
	case http.StatusForbidden:
		code = connect.CodePermissionDenied
	case http.StatusNotFound:
		code = connect.CodeUnimplemented // whoever answers, it is not a node
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		code = connect.CodeUnavailable
	}
	var told struct {
		Message string `json:"message"`
	}
	raw, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if json.Unmarshal(raw, &told) != nil || told.Message == "" {
		told.Message = res.Status
	}
	return connect.NewError(code, errors.New(told.Message))
}

// copyBackup copies a tar stream and returns its size. A stream that was cut off
// is an error, even where the connection ended in good order: a tar file ends
// with two blocks of zeros.
func copyBackup(w io.Writer, r io.Reader) (int64, error) {
	out := &output{w: w}
	size, err := copyTar(out, r)
	if out.err != nil { // to the reader of the copy it is the stream that fails
		return 0, out.err
	}
	return size, err
}

// output remembers how writing to it has failed.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil {
		o.err = err
	}
	return n, err
}

func copyTar(w io.Writer, r io.Reader) (int64, error) {
	return readTar(io.TeeReader(r, w), func(_ *tar.Header, content io.Reader) error {
		if _, err := io.Copy(io.Discard, content); err != nil {
			return fmt.Errorf("backup cut off: %w", err)
		}
		return nil
	})
}

// readTar passes on what a tar stream holds, file by file, and returns its size.
func readTar(r io.Reader, take func(*tar.Header, io.Reader) error) (int64, error) {
	end := &tail{}
	all := io.TeeReader(r, end)
	files := tar.NewReader(all)
	for n := 0; ; n++ {
		head, err := files.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("backup cut off or damaged after %d files: %w", n, err)
		}
		if err := take(head, files); err != nil {
			return 0, err
		}
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return 0, fmt.Errorf("backup cut off: %w", err)
	}
	if end.last != [tarEnd]byte{} || end.size < tarEnd {
		return 0, errors.New("backup cut off: the tar file has no end")
	}
	return end.size, nil
}

// tarEnd is the length of what stands at the end of a tar file, all zeros.
const tarEnd = 1024

// tail remembers the last bytes written to it, and how many there were.
type tail struct {
	last [tarEnd]byte
	size int64
}

func (t *tail) Write(p []byte) (int, error) {
	t.size += int64(len(p))
	if len(p) >= tarEnd {
		copy(t.last[:], p[len(p)-tarEnd:])
		return len(p), nil
	}
	copy(t.last[:], t.last[len(p):])
	copy(t.last[tarEnd-len(p):], p)
	return len(p), nil
}

// unpackBackup unpacks a tar stream that "dalvdb backup" wrote into a directory,
// as the log in it. That the log is whole, and of this backup, is found when it is
// opened.
func unpackBackup(r io.Reader, dir string) error {
	_, err := readTar(r, func(head *tar.Header, content io.Reader) error {
		name, log := filepath.Clean(filepath.FromSlash(head.Name)), filepath.Base(logDir(dir))
		if name != log && filepath.Dir(name) != log {
			return fmt.Errorf("no backup of a node: it has %q", head.Name)
		}
		err := unpackFile(content, head.Typeflag, filepath.Join(dir, name))
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("backup cut off: %w", err)
		}
		if err != nil {
			return fmt.Errorf("unpack %q: %w", head.Name, err)
		}
		return nil
	})
	return err
}

func unpackFile(content io.Reader, kind byte, path string) error {
	switch kind {
	case tar.TypeDir:
		return os.MkdirAll(path, 0o700)
	case tar.TypeReg:
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	}
	return errors.New("neither a file nor a directory")
}
