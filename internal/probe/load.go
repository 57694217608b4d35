// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"go.uber.org/zap"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
)

// Environment is what a probe needs to know of the host and its kernel.
type Environment struct {
	// Kernel is shared by all probes, so that its type information is read once. Required.
	Kernel *kernel.Kernel
	// Logger may be nil.
	Logger *zap.Logger
	// Root is where the host's root file system is; empty is "/".
	Root string
	// CgroupController is the index of the v1 controller whose hierarchy names containers; below 0, it is the v2 one.
	CgroupController int32
	// CgroupID turns the path of a cgroup into its id, for filters. Without it, filters of cgroups are refused.
	CgroupID func(path string) (uint64, error)
	// VerifierStatistics has the verifier tell how many instructions it processed where the kernel does not keep the number. It then tells less of programs
	// that it refuses.
	VerifierStatistics bool
}

// ErrNothingEnabled is returned by [Load] when the settings enable no metric and no event.
var ErrNothingEnabled = errors.New("no metric and no event is enabled")

// Unavailable says what of a probe is not to be had: a sentence for each capability that this process lacks, then one for each other reason. It is
// nil when nothing is missing.
func Unavailable(probe string, missing map[string]error) error {
	reasons, what := make(map[string]error), make(map[string][]string)
	for _, name := range sortedKeys(missing) {
		err := missing[name]
		key := "other " + err.Error()
		if c := lackedCapability(err); c != "" {
			key = "capability " + c
		}
		if reasons[key] == nil {
			reasons[key] = err
		}
		what[key] = append(what[key], name)
	}
	var errs []error
	for _, key := range sortedKeys(what) {
		verb := "is"
		if len(what[key]) > 1 {
			verb = "are"
		}
		errs = append(errs, fmt.Errorf("probe %s: %s %s not available: %w", probe, strings.Join(what[key], ", "), verb, reasons[key]))
	}
	return errors.Join(errs...)
}

// lackedCapability is what this process would have to be granted; empty when that is not the reason.
func lackedCapability(err error) string {
	var permission *kernel.PermissionError
	if errors.As(err, &permission) {
		return permission.Capability
	}
	return ""
}

// loader is one call of Load: it tries plans until one of them loads.
type loader struct {
	spec     *Spec
	settings Settings
	env      Environment
	object   *object
	// numbers are the running kernel's, by the variable that they are for.
	numbers map[string]int64
	// excluded are the candidates that can not be had, with the reason; nil for those that passed all checks.
	excluded map[candidateID]error
}

// candidateID is a candidate's place in the spec.
type candidateID struct {
	role  string
	index int
}

// Load creates the probe's maps and loads its programs, without attaching them. Of each role, the first candidate is taken that
// the kernel can do; a metric or event whose role has none is in [Probe.Missing], and the others work without it.
//
// The error is, or holds, an [*ObjectError] when the object does not fit the spec, a [*kernel.PermissionError] when this
// process lacks a right, and a [*kernel.UnsupportedError] when the kernel lacks a feature; when nothing is left, it is that of
// [Unavailable]. Whatever it is, nothing stays in the kernel.
func Load(spec *Spec, settings Settings, env Environment) (*Probe, error) {
	if env.Logger == nil {
		env.Logger = zap.NewNop()
	}
	if len(settings.Metrics)+len(settings.Events) == 0 {
		return nil, fmt.Errorf("probe %s: %w", spec.Name, ErrNothingEnabled)
	}
	o, err := openObject(spec)
	if err != nil {
		return nil, err
	}
	if err := env.Kernel.Missing(); err != nil {
		return nil, fmt.Errorf("probe %s: %w", spec.Name, err)
	}
	env.Kernel.RaiseMemlock()
	if settings.RingSize == 0 {
		settings.RingSize = max(DefaultRingSize, os.Getpagesize())
	}
	if settings, err = resolveCgroups(settings, env); err != nil {
		return nil, fmt.Errorf("probe %s: %w", spec.Name, err)
	}
	if spec, err = withEnums(spec, env.Kernel); err != nil {
		return nil, fmt.Errorf("probe %s: %w", spec.Name, err)
	}
	numbers, err := kernelNumbers(spec, env.Kernel)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", spec.Name, err)
	}
	l := &loader{spec: spec, settings: settings, env: env, object: o, numbers: numbers, excluded: make(map[candidateID]error)}
	return l.load()
}

// load plans and tries. Each failure excludes a candidate, so that it ends; constants depend on what is missing, so that each try
// starts from the object.
func (l *loader) load() (*Probe, error) {
	for {
		p := l.plan()
		if len(p.metrics)+len(p.events) == 0 {
			return nil, Unavailable(l.spec.Name, p.missing)
		}
		probe, failed, err := l.attempt(p)
		if err != nil {
			return nil, fmt.Errorf("probe %s: %w", l.spec.Name, err)
		}
		if probe != nil {
			l.report(probe)
			return probe, nil
		}
		for id, why := range failed {
			l.excluded[id] = why
		}
	}
}

func (l *loader) report(p *Probe) {
	for _, name := range sortedKeys(p.Missing) {
		l.env.Logger.Debug("not to be had from this kernel",
			zap.String("probe", l.spec.Name), zap.String("name", name), zap.Error(p.Missing[name]))
	}
	for _, name := range sortedKeys(p.Without) {
		l.env.Logger.Warn("not available, and the rest works without it",
			zap.String("probe", l.spec.Name), zap.String("what", name), zap.Error(p.Without[name]))
	}
	for _, info := range p.Programs {
		if info.Err != nil {
			l.env.Logger.Debug("program not taken",
				zap.String("probe", l.spec.Name), zap.String("program", info.Name), zap.Error(info.Err))
		}
	}
}

// resolveCgroups turns the paths in filters into ids. A cgroup that is not there lets nothing pass, and is an error: to filter by
// it silently would look like silence of the host.
func resolveCgroups(settings Settings, env Environment) (Settings, error) {
	events := make(map[string]EventSettings, len(settings.Events))
	for _, name := range sortedKeys(settings.Events) {
		e := settings.Events[name]
		ids := append([]uint64(nil), e.Filter.Cgroups...)
		for _, path := range e.Filter.CgroupPaths {
			if env.CgroupID == nil {
				return settings, fmt.Errorf("event %s: cgroup %s can not be looked up here", name, path)
			}
			id, err := env.CgroupID(path)
			if err != nil {
				return settings, fmt.Errorf("event %s: filter by cgroup %s: %w", name, path, err)
			}
			ids = append(ids, id)
		}
		e.Filter.Cgroups = ids
		events[name] = e
	}
	settings.Events = events
	return settings, nil
}
