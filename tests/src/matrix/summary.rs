//! The short table: one row per line of servers, what held by position and by GTID, and how long that took.

use std::time::Duration;

use super::cell::{Cell, Line, Mode};

/// Time to the first write of each cell that was played; `None` if it failed.
pub(super) type Times = Vec<(Cell, Option<Duration>)>;

/// The table in Markdown, without an end of line.
pub(super) fn table(times: &Times) -> String {
    let mut lines: Vec<Line> = times.iter().map(|(cell, _)| cell.line).collect();
    lines.sort_unstable();
    lines.dedup();
    let mut text = String::from("| servers | by position | by GTID |\n|---|---|---|");
    for line in lines {
        let of = |mode| part(times, line, mode);
        text.push_str(&format!(
            "\n| {line} | {} | {} |",
            of(Mode::Position),
            of(Mode::Gtid)
        ));
    }
    text
}

fn part(times: &Times, line: Line, mode: Mode) -> String {
    let of_part: Vec<Option<Duration>> = times
        .iter()
        .filter(|(cell, _)| cell.line == line && cell.mode == mode)
        .map(|(_, time)| *time)
        .collect();
    let mut held: Vec<Duration> = of_part.iter().copied().flatten().collect();
    held.sort_unstable();
    let count = format!("{} of {}", held.len(), of_part.len());
    match (held.first(), held.get(held.len() / 2), held.last()) {
        _ if of_part.is_empty() => "not played".to_owned(),
        (Some(least), Some(median), Some(most)) => {
            let [least, median, most] =
                [least, median, most].map(|time| format!("{:.1}", time.as_secs_f64()));
            format!("{count}, {median} s ({least} to {most})")
        }
        _ => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_what_held_and_counts_of_all() {
        let lines = Line::plain();
        let cells = Cell::all(&lines[..2]);
        let mut times: Times = cells
            .iter()
            .filter(|cell| !cell.is_named_by("mysql-5.7/gtid"))
            .zip(1_u64..)
            .map(|(cell, number)| (*cell, Some(Duration::from_millis(number * 100))))
            .collect();
        times[0].1 = None;
        for time in times
            .iter_mut()
            .filter(|(cell, _)| cell.is_named_by("mysql-5.7"))
        {
            time.1 = None;
        }
        assert_eq!(
            table(&times),
            "| servers | by position | by GTID |\n|---|---|---|\n\
             | mysql-5.6 | 7 of 8, 0.5 s (0.2 to 0.8) | 8 of 8, 1.3 s (0.9 to 1.6) |\n\
             | mysql-5.7 | 0 of 8 | not played |"
        );
    }
}
