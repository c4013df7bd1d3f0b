package main

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// writeFile makes a file of mode 0600 that appears, whole and durable, when
// write has succeeded, and not at all when it has not.
func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(write(w), w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkTarget finds what keeps a file from being made before anything is asked
// for that is to stand in it.
func checkTarget(path string) error {
	if path == "-" {
		return nil
	}
	dir := filepath.Dir(path)
	switch info, err := os.Stat(dir); {
	case err != nil:
		return usageError("FILE %s: %s: %w", path, dir, plain(err))
	case !info.IsDir():
		return usageError("FILE %s: %s is not a directory", path, dir)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return usageError("FILE %s is a directory", path)
	}
	return nil
}

// openFile opens what the command line says is to be read.
func openFile(what, path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usageError("%s %s: %w", what, path, plain(err))
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.Join(usageError("%s %s is a directory", what, path), f.Close())
	}
	return f, nil
}

// plain returns an error of the file system without the name of the call and of
// the file, for who has said already which file it is.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
