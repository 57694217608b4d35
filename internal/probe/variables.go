// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/cilium/ebpf"
)

// keySizeSuffix ends the name of the constant that SWAPPED_MAP of bpf/include/map.h makes for the size of a map's key.
const keySizeSuffix = "_key_size"

// What SLOTTED_HASH of bpf/include/slots.h makes for a map that an option of the type entries is about: the map of its slots, and the constant for its size.
const (
	slotsSuffix = "_slots"
	setsSuffix  = "_sets"
)

// slotSets is the number of elements, of sixteen slots each, for half as many slots as entries.
func slotSets(entries int64) uint32 { return uint32((entries + 31) / 32) }

// What bpf/include/packet.h declares.
const (
	attachmentVariable   = "attachment"
	packetFilterVariable = "packet_filter"
	packetFilterFunction = "packet_matches"
)

// What bpf/include/event.h and task.h declare.
const (
	eventConfigVariable      = "event_config"
	eventWakeupVariable      = "event_wakeup_bytes"
	cgroupControllerVariable = "cgroup_controller"
	pageSizeVariable         = "page_size"
	possibleCPUsVariable     = "possible_cpus"
	eventStatsMap            = "event_stats"
	eventFiltersMap          = "event_filters"
	endingMap                = "ending"
	knownNamespacesMap       = "known_namespaces"

	eventConfigSize    = 24 // struct event_config
	eventStatsSize     = 40 // struct event_stats
	eventFilterKeySize = 24 // struct event_filter_key

	eventFilterPID    = 1 << 0 // enum event_filter
	eventFilterUID    = 1 << 1
	eventFilterCgroup = 1 << 2
	eventFilterComm   = 1 << 3
)

// wakeupFraction of the ring is filled when a submit wakes the reader.
const wakeupFraction = 8

// setVariables writes the user's choices into the object's constants.
func setVariables(spec *Spec, o *object, p *plan, settings Settings, env Environment) error {
	set := func(name string, n int64) error { return setInteger(o.Variables[name], n) }
	for _, name := range sortedKeys(spec.Options) {
		option := spec.Options[name]
		if option.Type == OptionEntries { // the size of a map
			if entries, ok := settings.Options[name].(int64); ok && o.Variables[option.Map+setsSuffix] != nil {
				if err := set(option.Map+setsSuffix, int64(slotSets(entries))); err != nil {
					return fmt.Errorf("option %s: %w", name, err)
				}
			}
			continue
		}
		n, err := optionValue(settings.Options[name])
		if err == nil {
			err = set(option.Variable, n)
		}
		if err != nil {
			return fmt.Errorf("option %s: %w", name, err)
		}
	}
	// Dimensions may share a variable, and so may metrics: it is on when any of them is wanted.
	wanted := make(map[string]bool)
	for name, d := range spec.Dimensions {
		wanted[d.Variable] = wanted[d.Variable] || selects(p.metrics, name)
	}
	for name, m := range spec.Metrics {
		_, enabled := p.metrics[name]
		wanted[m.Variable] = wanted[m.Variable] || enabled
	}
	delete(wanted, "")
	for _, v := range sortedKeys(wanted) {
		if err := set(v, boolean(wanted[v])); err != nil {
			return fmt.Errorf("variable %s: %w", v, err)
		}
	}
	if _, ok := o.Variables[cgroupControllerVariable]; ok {
		if err := set(cgroupControllerVariable, int64(env.CgroupController)); err != nil {
			return err
		}
	}
	if _, ok := o.Variables[pageSizeVariable]; ok {
		if err := set(pageSizeVariable, int64(os.Getpagesize())); err != nil {
			return err
		}
	}
	if _, ok := o.Variables[possibleCPUsVariable]; ok {
		cpus, err := ebpf.PossibleCPU()
		if err == nil {
			err = set(possibleCPUsVariable, int64(cpus))
		}
		if err != nil {
			return err
		}
	}
	for name, m := range o.Maps {
		if v := o.Variables[name+keySizeSuffix]; v != nil && isSwapped(m) {
			if err := setInteger(v, int64(m.InnerMap.KeySize)); err != nil {
				return err
			}
		}
	}
	if spec.Packets {
		if err := set(packetFilterVariable, boolean(settings.PacketFilter != "")); err != nil {
			return err
		}
	}
	if _, ok := o.Variables[eventWakeupVariable]; ok {
		if err := set(eventWakeupVariable, int64(settings.RingSize/wakeupFraction)); err != nil {
			return err
		}
	}
	if v, ok := o.Variables[eventConfigVariable]; ok && len(p.events) > 0 {
		if err := v.Set(eventConfigs(spec, o, p.events)); err != nil {
			return err
		}
	}
	return nil
}

// selects tells whether any of the metrics is broken down by the dimension.
func selects(metrics map[string]MetricSettings, dimension string) bool {
	for _, m := range metrics {
		if slices.Contains(m.Attributes, dimension) {
			return true
		}
	}
	return false
}

func boolean(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func optionValue(v any) (int64, error) {
	switch v := v.(type) {
	case bool:
		return boolean(v), nil
	case int64:
		return v, nil
	case []CIDR:
		return boolean(len(v) > 0), nil
	}
	return 0, fmt.Errorf("a value of type %T is neither bool nor int64", v)
}

// setInteger writes a number into a variable of whatever size it has, and refuses what does not fit.
func setInteger(v *ebpf.VariableSpec, n int64) error {
	if v == nil {
		return fmt.Errorf("the object has no such variable")
	}
	size := v.Size()
	if size < 8 && (n < -1<<(8*size-1) || n >= 1<<(8*size)) {
		return fmt.Errorf("%d does not fit into the %d bytes of variable %s", n, size, v.Name)
	}
	switch size {
	case 1:
		return v.Set(uint8(n))
	case 2:
		return v.Set(uint16(n))
	case 4:
		return v.Set(uint32(n))
	case 8:
		return v.Set(uint64(n))
	}
	return fmt.Errorf("variable %s has %d bytes, which is no integer", v.Name, size)
}

// eventConfigs is the array event_config.
func eventConfigs(spec *Spec, o *object, events map[string]EventSettings) []byte {
	configs := make([]byte, maxEventTypes*eventConfigSize)
	for name, settings := range events {
		id := o.enumerators[spec.Events[name].ID]
		c := configs[id*eventConfigSize:][:eventConfigSize]
		interval, burst := pace(settings.RateLimit)
		binary.NativeEndian.PutUint64(c[0:], interval)
		binary.NativeEndian.PutUint64(c[8:], burst)
		binary.NativeEndian.PutUint32(c[16:], 1)
		binary.NativeEndian.PutUint32(c[20:], filterMask(settings.Filter))
	}
	return configs
}

// pace is the time between two events at a rate, and how much of unused time may be spent at once: a second's worth less the
// event that is passed in any case. Both are in ns; an interval of 0 is no limit.
func pace(rate float64) (interval, burst uint64) {
	const second = 1e9
	if rate <= 0 || rate > second {
		return 0, 0
	}
	interval = uint64(min(math.Round(second/rate), math.MaxInt64))
	if interval < second {
		burst = second - interval
	}
	return interval, burst
}

func filterMask(f Filter) uint32 {
	var mask uint32
	if len(f.PIDs) > 0 {
		mask |= eventFilterPID
	}
	if len(f.UIDs) > 0 {
		mask |= eventFilterUID
	}
	if len(f.Cgroups)+len(f.CgroupPaths) > 0 {
		mask |= eventFilterCgroup
	}
	if len(f.Commands) > 0 {
		mask |= eventFilterComm
	}
	return mask
}

// filterKey is a struct event_filter_key.
type filterKey [eventFilterKeySize]byte

// filterKeys are the entries of the map event_filters: what may pass, for all events.
func filterKeys(spec *Spec, o *object, events map[string]EventSettings) []filterKey {
	var keys []filterKey
	for _, name := range sortedKeys(events) {
		id, f := o.enumerators[spec.Events[name].ID], events[name].Filter
		add := func(filter uint32, value func(v []byte)) {
			var key filterKey
			binary.NativeEndian.PutUint32(key[0:], uint32(id))
			binary.NativeEndian.PutUint32(key[4:], filter)
			value(key[8:])
			keys = append(keys, key)
		}
		for _, pid := range f.PIDs {
			add(eventFilterPID, func(v []byte) { binary.NativeEndian.PutUint32(v, pid) })
		}
		for _, uid := range f.UIDs {
			add(eventFilterUID, func(v []byte) { binary.NativeEndian.PutUint32(v, uid) })
		}
		for _, id := range f.Cgroups {
			add(eventFilterCgroup, func(v []byte) { binary.NativeEndian.PutUint64(v, id) })
		}
		for _, command := range f.Commands {
			add(eventFilterComm, func(v []byte) { copy(v[:CommandLength], command) })
		}
	}
	return keys
}
