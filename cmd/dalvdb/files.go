package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// pieceSize is how much is written at a time.
const pieceSize = 1 << 20

// writeFile lets write make the file at path: one of mode 0600 that appears, whole
// and durable, when write has succeeded, and not at all when it has not. Of a
// symlink it is what it leads to that appears. A device or a pipe is not put away
// for a file of its name, but written to as it comes.
func writeFile(path string, write func(io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return writeThrough(path, info.Mode(), write)
	}
	path, err := leadsTo(path)
	if err != nil {
		return err
	}
	return replaceFile(path, write)
}

func replaceFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := errors.Join(buffered(f, pieceSize, write), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeThrough writes to what is there and stays there. Of such things only a
// disk keeps what it is given, and can be asked to have it.
func writeThrough(path string, mode fs.FileMode, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = buffered(f, pieceSize, write)
	if err == nil && mode.Type() == fs.ModeDevice {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// linksMax is how many symlinks are followed one after the other, as in Linux.
const linksMax = 40

// leadsTo returns where a file of this name is, or is to be made, once symlinks
// have been followed; the last one may lead to nothing.
func leadsTo(path string) (string, error) {
	for range linksMax {
		// Of link/../name only the system knows where it is: nothing here may take
		// a ".." for the parent of the name before it.
		parent, name := filepath.Split(path)
		dir, err := filepath.EvalSymlinks(parent + ".")
		if err != nil {
			return "", fmt.Errorf("%s: %w", filepath.Dir(path), plain(err))
		}
		path = filepath.Join(dir, name)
		to, err := os.Readlink(path)
		if err != nil {
			return path, nil //nolint:nilerr // it is no symlink, or nothing is there
		}
		if filepath.IsAbs(to) {
			path = to
		} else {
			path = dir + string(filepath.Separator) + to
		}
	}
	return "", fmt.Errorf("%s: %w", path, syscall.ELOOP)
}

// buffered lets write write to w through a buffer, in pieces of size. What it has
// written when it fails is passed on all the same.
func buffered(w io.Writer, size int, write func(io.Writer) error) error {
	b := bufio.NewWriterSize(w, size)
	err := write(b)
	if flushed := b.Flush(); err == nil { // else w has failed twice with the same, or the rest matters no more
		err = flushed
	}
	return err
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
	if _, err := leadsTo(path); err != nil {
		return usageError("FILE %s: %w", path, err)
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
