// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
)

var update = flag.Bool("update", false, "write what the installed tcpdump makes of testdata/expressions.txt")

// corpus is testdata/expressions.txt: an expression per line, and comments.
func corpus(t testing.TB) []string {
	data, err := os.ReadFile("testdata/expressions.txt")
	require.NoError(t, err)
	var all []string
	for line := range strings.SplitSeq(string(data), "\n") {
		if line != "" && line[0] != '#' {
			all = append(all, line)
		}
	}
	return all
}

var links = map[Link]string{Ethernet: "EN10MB", IP: "RAW"}

// tcpdump is what tcpdump makes of an expression: a program, or the reason why it refuses it.
func tcpdump(t testing.TB, expression string, link Link, flags ...string) (program []bpf.RawInstruction, refusal string) {
	cmd := exec.Command("tcpdump", append(flags, "-ddd", "-y", links[link], "--", expression)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return nil, strings.TrimPrefix(lines[len(lines)-1], "tcpdump: ")
	}
	return decimal(t, stdout.String()), ""
}

// decimal reads the output of tcpdump -ddd.
func decimal(t testing.TB, text string) []bpf.RawInstruction {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var program []bpf.RawInstruction
	for _, line := range lines[1:] {
		var ri bpf.RawInstruction
		_, err := fmt.Sscan(line, &ri.Op, &ri.Jt, &ri.Jf, &ri.K)
		require.NoError(t, err, line)
		program = append(program, ri)
	}
	require.Equal(t, lines[0], fmt.Sprint(len(program)))
	return program
}

// A golden is an expression with what tcpdump makes of it.
type golden struct {
	expression string
	program    []bpf.RawInstruction
	refusal    string
}

func goldens(t testing.TB, link Link) []golden {
	path := filepath.Join("testdata", links[link]+".golden")
	if *update {
		var b strings.Builder
		for _, e := range corpus(t) {
			program, refusal := tcpdump(t, e, link)
			fmt.Fprintf(&b, "= %s\n", e)
			if refusal != "" {
				fmt.Fprintf(&b, "! %s\n", refusal)
			}
			for _, ri := range program {
				fmt.Fprintln(&b, ri.Op, ri.Jt, ri.Jf, ri.K)
			}
		}
		require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
	}
	all := readGoldens(t, path)
	var expressions []string
	for _, g := range all {
		expressions = append(expressions, g.expression)
	}
	require.Equal(t, corpus(t), expressions, "run go test -update where tcpdump is installed")
	return all
}

func readGoldens(t testing.TB, path string) []golden {
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	var all []golden
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		line := scanner.Text()
		switch line[0] {
		case '=':
			all = append(all, golden{expression: line[2:]})
		case '!':
			all[len(all)-1].refusal = line[2:]
		default:
			var ri bpf.RawInstruction
			_, err := fmt.Sscan(line, &ri.Op, &ri.Jt, &ri.Jf, &ri.K)
			require.NoError(t, err)
			g := &all[len(all)-1]
			g.program = append(g.program, ri)
		}
	}
	return all
}

// vm is a program in the virtual machine, or nil if it reads metadata of the kernel, which that does not have.
func vm(t testing.TB, program []bpf.RawInstruction) *bpf.VM {
	var decoded []bpf.Instruction
	for _, ri := range program {
		ins := ri.Disassemble()
		if ext, ok := ins.(bpf.LoadExtension); ok && ext.Num != bpf.ExtLen {
			return nil
		}
		if _, ok := ins.(bpf.NegateA); ok { // which it does not have, either
			ins = bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: math.MaxUint32}
		}
		decoded = append(decoded, ins)
	}
	machine, err := bpf.NewVM(decoded)
	require.NoError(t, err)
	return machine
}

func verdict(t testing.TB, machine *bpf.VM, data []byte) bool {
	n, err := machine.Run(data)
	require.NoError(t, err)
	return n != 0
}

// Every verdict of ours is tcpdump's, for every expression and every packet, cut at every length.
func TestVerdictsAreThoseOfTcpdump(t *testing.T) {
	all := frames()
	for link, name := range links {
		t.Run(name, func(t *testing.T) {
			compared, matched, instructions, theirs := 0, 0, 0, 0
			for _, g := range goldens(t, link) {
				program, err := Compile(g.expression, link)
				if g.refusal != "" {
					if strings.Contains(g.refusal, "rejects all packets") && err == nil {
						require.Equal(t, []bpf.Instruction{bpf.RetConstant{}}, program.classic, "%s: tcpdump says that it %s", g.expression, g.refusal)
						continue
					}
					require.Error(t, err, "%s: tcpdump refuses it: %s", g.expression, g.refusal)
					continue
				}
				require.NoError(t, err, g.expression)
				instructions += len(program.Classic())
				theirs += len(g.program)
				ours, want := vm(t, program.Classic()), vm(t, g.program)
				require.Equal(t, want == nil, ours == nil, g.expression)
				if ours == nil {
					continue
				}
				for _, f := range all {
					if f.raw != (link == IP) {
						continue
					}
					for _, data := range f.cuts() {
						expected := verdict(t, want, data)
						if verdict(t, ours, data) != expected {
							t.Errorf("%s\non %s, %d of %d bytes: tcpdump says %v", g.expression, f.name, len(data), len(f.data), expected)
							break
						}
						compared++
						if expected {
							matched++
						}
					}
				}
			}
			require.NotZero(t, matched)
			t.Logf("%d verdicts are equal, %d of them matches; %d instructions, tcpdump has %d", compared, matched, instructions, theirs)
		})
	}
}
