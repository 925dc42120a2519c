//! `ringtap redirect`: the rules that bend a segment to us.
