// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"unicode/utf8"
)

// SyntaxError says what is wrong with an expression, and where.
type SyntaxError struct {
	Expression string
	// Offset is the byte in Expression at which the offending word begins; len(Expression) if something is missing at its end.
	Offset int
	// Word is the offending word, empty at the end of the expression.
	Word string
	// Message is a clause without a full stop.
	Message string
}

// Column is the position of the offending word in characters, from 1.
func (e *SyntaxError) Column() int {
	return utf8.RuneCountInString(e.Expression[:min(e.Offset, len(e.Expression))]) + 1
}

func (e *SyntaxError) Error() string {
	if e.Word == "" {
		return fmt.Sprintf("filter: at the end (column %d): %s", e.Column(), e.Message)
	}
	return fmt.Sprintf("filter: at %q (column %d): %s", e.Word, e.Column(), e.Message)
}
