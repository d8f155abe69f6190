//! Drawings as SVG: panels one below the other, lines with marks, axes with round ticks.
//!
//! Text is never measured, since nobody knows the reader's font: what could run into each other stands in places of its own, with
//! room to spare. The paper is white, so that a drawing can be read on a dark page as well.

mod axis;

use std::fmt;

pub(super) use axis::{Axis, Scale, round_at_or_above};

/// A drawing.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) panels: Vec<Panel>,
}

/// Lines over the same axes.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: &'static str,
    /// In the order of x.
    pub(super) points: Vec<Point>,
}

/// A point of a line, in the units of the axes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) mark: Mark,
}

/// How a point looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A dot.
    Plain,
    /// A circle: the server was behind what was offered.
    Behind,
    /// A diamond beside the line: measured in a closed loop.
    Closed,
}

impl Mark {
    /// What the legend says; nothing of what needs no word.
    fn meaning(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Behind => Some("less reached than offered"),
            Self::Closed => Some("closed loop"),
        }
    }
}

const WIDTH: f64 = 960.0;
/// Of a panel's frame.
const LEFT: f64 = 88.0;
const RIGHT: f64 = WIDTH - 32.0;
const FRAME_HEIGHT: f64 = 300.0;
/// Title and legend.
const HEAD: f64 = 74.0;
/// Above a frame: the name of its y axis. Below it: ticks and the name of its x axis.
const ABOVE: f64 = 34.0;
const BELOW: f64 = 60.0;
/// Of a letter in the legend, the widest fonts in mind.
const LETTER: f64 = 7.6;
const MARK: f64 = 4.5;
const INK: &str = "#222";
const PAPER: &str = "#fff";
/// Told apart by those who see few colours, too (Okabe and Ito).
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"];

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panel_height = ABOVE + FRAME_HEIGHT + BELOW;
        let height = HEAD + self.panels.len() as f64 * panel_height;
        write!(f, r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" "#)?;
        writeln!(f, r#"font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{INK}">"#)?;
        writeln!(f, r#"<rect width="{WIDTH}" height="{height}" rx="8" fill="{PAPER}"/>"#)?;
        writeln!(f, r#"<text class="title" x="24" y="34" font-size="18" font-weight="bold">{}</text>"#, Escaped(&self.title))?;
        self.draw_legend(f)?;
        let mut colours = COLOURS.into_iter().cycle();
        for (number, panel) in (0_u32..).zip(&self.panels) {
            panel.draw(f, HEAD + ABOVE + f64::from(number) * panel_height, &mut colours)?;
        }
        writeln!(f, "</svg>")
    }
}

impl Plot {
    /// One row below the title: the lines, then what marks mean.
    fn draw_legend(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut x = 24.0;
        let mut entry = |f: &mut fmt::Formatter<'_>, mark: Mark, colour: &str, name: &str| -> fmt::Result {
            writeln!(f, r#"<g class="legend" stroke="{colour}" stroke-width="2">"#)?;
            if mark == Mark::Plain {
                writeln!(f, r#"<path d="M{x} 57h24"/>"#)?;
            }
            draw_mark(f, mark, (x + 12.0, 57.0), colour, name)?;
            writeln!(f, r#"</g><text x="{}" y="61.5">{}</text>"#, x + 30.0, Escaped(name))?;
            x += 30.0 + LETTER * name.chars().count() as f64 + 18.0;
            Ok(())
        };
        let lines = || self.panels.iter().flat_map(|panel| &panel.lines);
        for (line, colour) in lines().zip(COLOURS.into_iter().cycle()) {
            entry(f, Mark::Plain, colour, line.name)?;
        }
        for mark in [Mark::Behind, Mark::Closed] {
            let is_used = lines().flat_map(|line| &line.points).any(|point| point.mark == mark);
            if let Some(meaning) = mark.meaning().filter(|_| is_used) {
                entry(f, mark, INK, meaning)?;
            }
        }
        Ok(())
    }
}

impl Panel {
    /// Draws the panel with the top of its frame at `top`; each line takes the next colour.
    fn draw(&self, f: &mut fmt::Formatter<'_>, top: f64, colours: &mut impl Iterator<Item = &'static str>) -> fmt::Result {
        let bottom = top + FRAME_HEIGHT;
        writeln!(f, r#"<g class="panel">"#)?;
        self.draw_axes(f, top, bottom)?;
        for (line, colour) in self.lines.iter().zip(colours) {
            let at = |point: &Point| (LEFT + self.x.place(point.x) * (RIGHT - LEFT), bottom - self.y.place(point.y) * FRAME_HEIGHT);
            writeln!(f, r#"<g class="line" stroke="{colour}" stroke-width="2">"#)?;
            let joined: Vec<_> = line.points.iter().filter(|point| point.mark != Mark::Closed).map(at).collect();
            let joined: Vec<_> = joined.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            writeln!(f, r#"<polyline points="{}" fill="none" stroke-linejoin="round"/>"#, joined.join(" "))?;
            for point in &line.points {
                let said = format!("{}: {} at {}", line.name, self.y.text(point.y), self.x.text(point.x));
                draw_mark(f, point.mark, at(point), colour, &said)?;
            }
            writeln!(f, "</g>")?;
        }
        writeln!(f, "</g>")
    }

    fn draw_axes(&self, f: &mut fmt::Formatter<'_>, top: f64, bottom: f64) -> fmt::Result {
        writeln!(f, r#"<text x="24" y="{}" font-weight="bold">{}</text>"#, top - 17.0, Escaped(self.y.name))?;
        let middle = (LEFT + RIGHT) / 2.0;
        writeln!(f, r#"<text x="{middle}" y="{}" text-anchor="middle" font-weight="bold">{}</text>"#, bottom + 44.0, Escaped(self.x.name))?;
        let shade = |label: &Option<String>| if label.is_some() { "#d4d4d4" } else { "#eee" };
        for tick in &self.y.ticks {
            let y = bottom - self.y.place(tick.value) * FRAME_HEIGHT;
            writeln!(f, r#"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="{}"/>"#, shade(&tick.label))?;
            if let Some(label) = &tick.label {
                writeln!(f, r#"<text x="{}" y="{:.1}" text-anchor="end">{}</text>"#, LEFT - 10.0, y + 4.5, Escaped(label))?;
            }
        }
        for tick in &self.x.ticks {
            let x = LEFT + self.x.place(tick.value) * (RIGHT - LEFT);
            writeln!(f, r#"<path d="M{x:.1} {top}V{}" stroke="{}"/>"#, bottom + 5.0, shade(&tick.label))?;
            if let Some(label) = &tick.label {
                writeln!(f, r#"<text x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#, bottom + 21.0, Escaped(label))?;
            }
        }
        writeln!(f, r#"<path d="M{LEFT} {top}V{bottom}H{RIGHT}" fill="none" stroke="{INK}"/>"#)
    }
}

/// A mark, and what is said where the reader points at it.
fn draw_mark(f: &mut fmt::Formatter<'_>, mark: Mark, (x, y): (f64, f64), colour: &str, said: &str) -> fmt::Result {
    let said = Escaped(said);
    match mark {
        Mark::Plain | Mark::Behind => {
            let fill = if mark == Mark::Plain { colour } else { PAPER };
            writeln!(f, r#"<circle cx="{x:.1}" cy="{y:.1}" r="{MARK}" fill="{fill}"><title>{said}</title></circle>"#)
        }
        Mark::Closed => {
            let side = MARK * 1.4;
            let outline = format!("M{x:.1} {:.1}l{side:.1} {side:.1}l-{side:.1} {side:.1}l-{side:.1} -{side:.1}z", y - side);
            writeln!(f, r#"<path class="diamond" d="{outline}" fill="{PAPER}"><title>{said}</title></path>"#)
        }
    }
}

/// Text as XML has it; characters that XML cannot have are left out.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars().filter(|letter| !letter.is_control() && !matches!(letter, '\u{fffe}' | '\u{ffff}')) {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                other => fmt::Write::write_char(f, other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(title: &str, marks: &[Mark]) -> String {
        let points: Vec<_> = (1_u8..).zip(marks).map(|(x, mark)| Point { x: x.into(), y: 1.0, mark: *mark }).collect();
        let axis = |name| Axis::new(name, Scale::Log, "s", points.iter().map(|point| point.x));
        let (x, y) = (axis("across"), axis("up"));
        Plot { title: title.into(), panels: vec![Panel { x, y, lines: vec![Line { name: "p50", points }] }] }.to_string()
    }

    #[test]
    fn a_title_may_hold_whatever_it_likes() {
        let svg = plot("a < b & \"c\" > 'd' \u{1}é\n", &[Mark::Plain]);
        assert!(svg.contains(">a &lt; b &amp; \"c\" &gt; 'd' é</text>"), "{svg}");
    }

    #[test]
    fn the_legend_explains_the_marks_that_are_there_and_no_others() {
        let plain = plot("", &[Mark::Plain, Mark::Plain]);
        assert!(plain.contains(">p50</text>") && !plain.contains("closed loop") && !plain.contains("offered"), "{plain}");
        let all = plot("", &[Mark::Plain, Mark::Behind, Mark::Closed]);
        assert!(all.contains(">less reached than offered</text>") && all.contains(">closed loop</text>"), "{all}");
    }

    #[test]
    fn what_was_measured_in_a_closed_loop_is_not_joined_to_the_line() {
        let svg = plot("", &[Mark::Plain, Mark::Behind, Mark::Closed]);
        let (_, after) = svg.split_once("<polyline points=\"").expect("a line");
        let (points, _) = after.split_once('"').expect("its end");
        assert_eq!(points.split(' ').count(), 2, "{points}");
        assert_eq!(svg.matches("class=\"diamond\"").count(), 2, "the point and the legend's");
    }

    #[test]
    fn panels_stand_below_each_other() {
        let panel = |name| {
            let axis = || Axis::new("", Scale::Linear, "", [1.0]);
            Panel { x: axis(), y: axis(), lines: vec![Line { name, points: vec![Point { x: 1.0, y: 0.0, mark: Mark::Plain }] }] }
        };
        let svg = Plot { title: String::new(), panels: vec![panel("a"), panel("b")] }.to_string();
        let heights: Vec<f64> = svg
            .split("class=\"line\"")
            .skip(1)
            .map(|line| {
                let (_, y) = line.split_once("cy=\"").expect("a mark");
                y[..y.find('"').expect("its end")].parse().expect("a number")
            })
            .collect();
        assert_eq!(heights, [HEAD + ABOVE + FRAME_HEIGHT, HEAD + 2.0 * (ABOVE + FRAME_HEIGHT) + BELOW]);
    }
}
