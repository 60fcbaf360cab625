package broadcast

func (c handle) inspect() (own int, why string) {
	c.with(func(l *loop, r *record) {
		if st := l.stalls[c.slot]; st != nil {
			own = len(st.own)
		}
		why = endReasons[r.why]
	})
	return own, why
}
