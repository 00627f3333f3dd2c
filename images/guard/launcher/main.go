// The launcher of a stdio MCP server: it opens the server's two named pipes and becomes the server.
//
// The launcher is a static program, so that an MCP server's image needs no shell. An init container copies it into a
// volume, and the server's container starts it from there:
//
//	launch DIRECTORY PROGRAM [ARGUMENT...]
//
// DIRECTORY has the pipes "in" and "out". PROGRAM is a path, or a name that is looked up in PATH. If the launcher cannot
// become the program, one line on standard error says why. The exit codes are those of a shell: 127 if there is no such
// program, 126 if the program cannot be run. The code is 125 if a pipe cannot be opened.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
)

const (
	codeFailed   = 125
	codeUnusable = 126
	codeMissing  = 127
)

// defaultPath is where programs are looked up if the image sets no PATH, as container runtimes do it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const fix = "set spec.server.stdio.command to a program of the image"

func init() {
	runtime.LockOSThread() // exec keeps some settings of a process only if its first thread calls it
}

func main() {
	if len(os.Args) < 3 {
		fail(codeFailed, "usage: launch DIRECTORY PROGRAM [ARGUMENT...]")
	}
	directory, command := os.Args[1], os.Args[2:]
	program := find(command[0]) // before the pipes, whose open waits for the guard: a wrong command is told immediately
	connect(directory+"/in", syscall.O_RDONLY, 0)
	// There is no O_CREAT, as a shell would have it: an empty file would only look like a pipe.
	connect(directory+"/out", syscall.O_WRONLY, 1)
	refuse(program, syscall.Exec(program, command, os.Environ()))
}

// find returns the path of a program. Like execvp, it takes the first file of PATH that may be executed.
func find(name string) string {
	if strings.Contains(name, "/") {
		if err := check(name); errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
			fail(codeMissing, "the image has no file %q; %s", name, fix)
		} else if err != nil {
			refuse(name, err)
		}
		return name
	}
	path := os.Getenv("PATH")
	if path == "" {
		path = defaultPath
	}
	unusable := ""
	for _, folder := range strings.Split(path, ":") {
		if folder == "" {
			folder = "."
		}
		file := folder + "/" + name
		err := check(file)
		if err == nil {
			return file
		}
		if errors.Is(err, syscall.EACCES) {
			unusable = file
		}
	}
	if unusable != "" {
		refuse(unusable, syscall.EACCES)
	}
	fail(codeMissing, "the image has no program %q in PATH; %s. PATH is %s", name, fix, path)
	return ""
}

// refuse says why a program cannot be run.
func refuse(program string, err error) {
	switch {
	case errors.Is(err, syscall.EACCES):
		fail(codeUnusable, "user %d may not run %q; build the image so that users other than root can", os.Getuid(), program)
	case errors.Is(err, syscall.ENOENT):
		fail(codeUnusable, "%q needs an interpreter or a dynamic linker that the image lacks; %s", program, fix)
	case errors.Is(err, syscall.ENOEXEC):
		fail(codeUnusable, "%q is for another machine, or a script without #! in its first line; %s", program, fix)
	default:
		fail(codeUnusable, "%q cannot be run: %v; %s", program, err, fix)
	}
}

// check returns nil if a path is a file that this user may execute.
func check(path string) error {
	var file syscall.Stat_t
	if err := retry(func() error { return syscall.Stat(path, &file) }); err != nil {
		return err
	}
	if file.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return errors.New("not a file")
	}
	return syscall.Access(path, 1) // X_OK
}

// connect opens a named pipe, waits until the guard has opened its other end, and makes it one of the standard streams.
func connect(path string, mode int, stream int) {
	pipe := -1
	err := retry(func() (err error) {
		pipe, err = syscall.Open(path, mode|syscall.O_CLOEXEC, 0)
		return err
	})
	var file syscall.Stat_t
	if err == nil {
		err = syscall.Fstat(pipe, &file)
	}
	if err == nil && file.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		err = errors.New("not a named pipe")
	}
	if err == nil {
		err = retry(func() error { return syscall.Dup3(pipe, stream, 0) })
	}
	if err != nil {
		fail(codeFailed, "cannot open %q: %v", path, err)
	}
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}

func fail(code int, format string, values ...any) {
	fmt.Fprintf(os.Stderr, "interlock-launch: "+format+"\n", values...)
	os.Exit(code)
}
