// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
)

// doSomething gives every probe something to see: processes that run, fail and are signalled, connections that are made and refused,
// datagrams that arrive and that are dropped, and files. None of it needs a right.
func doSomething() error {
	for range 3 {
		if err := exec.Command("/bin/true").Run(); err != nil {
			return err
		}
	}
	if err := exec.Command("/absent").Run(); err == nil {
		return errors.New("a program that does not exist was run")
	}
	sleeper := exec.Command("/bin/sleep", "60")
	if err := sleeper.Start(); err != nil {
		return err
	}
	if err := sleeper.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_ = sleeper.Wait()
	return errors.Join(connections(), datagrams(), files())
}

func connections() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	served := make(chan error, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		_, err = io.Copy(c, c)
		served <- errors.Join(err, c.Close())
	}()
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	message := make([]byte, 16<<10)
	if _, err := c.Write(message); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, message); err != nil {
		return err
	}
	err = errors.Join(c.Close(), <-served, listener.Close())
	if c, refused := net.Dial("tcp", address); refused == nil {
		c.Close()
		return fmt.Errorf("nobody listens at %s, and yet somebody answered", address)
	}
	return err
}

func datagrams() error {
	receiver, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer receiver.Close()
	sender, err := net.Dial("udp", receiver.LocalAddr().String())
	if err != nil {
		return err
	}
	defer sender.Close()
	message := make([]byte, 100)
	for range 3 {
		if _, err := sender.Write(message); err != nil {
			return err
		}
		if _, _, err := receiver.ReadFrom(message); err != nil {
			return err
		}
	}
	// Now nobody reads, until there is no room.
	if err := receiver.(*net.UDPConn).SetReadBuffer(1); err != nil {
		return err
	}
	for range 100 {
		if _, err := sender.Write(message); err != nil {
			return err
		}
	}
	return nil
}

func files() error {
	f, err := os.CreateTemp("", "")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, 64<<10))
	return errors.Join(err, f.Sync(), f.Close())
}
