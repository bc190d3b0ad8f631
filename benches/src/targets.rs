//! The targets: what Whorl must reach, as a ratio to a contender of the same run or as a fixed limit.

/// One demand on one figure of one contender.
#[derive(Clone, Debug)]
pub struct Target {
    pub of: &'static str,
    pub against: Against,
    pub bound: Bound,
}

#[derive(Clone, Debug)]
pub enum Against {
    /// The best of the contenders whose names begin with one of these.
    Best(&'static [&'static str]),
    /// A number in the figure's unit.
    Limit(f64),
}

#[derive(Clone, Copy, Debug)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// No demand; the table only shows the ratio.
    Beside,
}

impl Bound {
    pub fn met(self, ratio: f64) -> bool {
        match self {
            Bound::AtLeast(least) => ratio >= least,
            Bound::AtMost(most) => ratio <= most,
            Bound::Beside => true,
        }
    }

    /// Returns how near the bound is. Above 1 the target is met; a smaller margin is worse.
    pub fn margin(self, ratio: f64) -> f64 {
        match self {
            Bound::AtLeast(least) => ratio / least,
            Bound::AtMost(most) => most / ratio,
            Bound::Beside => f64::INFINITY,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sign, factor) = match self.bound {
            Bound::AtLeast(least) => (">=", least),
            Bound::AtMost(most) => ("<=", most),
            Bound::Beside => ("beside", 1.0),
        };
        match &self.against {
            Against::Best(names) if matches!(self.bound, Bound::Beside) => {
                write!(f, "{sign} {}", names.join(" or "))
            }
            Against::Best(names) => write!(f, "{sign} {factor}x {}", names.join(" or ")),
            Against::Limit(limit) => write!(f, "{sign} {}", crate::statistics::number(limit * factor)),
        }
    }
}

/// Demands at least `factor` times as much as the best of these.
pub fn at_least(factor: f64, names: &'static [&'static str]) -> Target {
    Target { of: "whorl", against: Against::Best(names), bound: Bound::AtLeast(factor) }
}

/// Demands at most `factor` times as much as the best of these.
pub fn at_most(factor: f64, names: &'static [&'static str]) -> Target {
    Target { of: "whorl", against: Against::Best(names), bound: Bound::AtMost(factor) }
}

/// Shows how many times as much as the best of these, without a demand.
pub fn beside(names: &'static [&'static str]) -> Target {
    Target { of: "whorl", against: Against::Best(names), bound: Bound::Beside }
}

/// Demands at most this number.
pub fn limit(limit: f64) -> Target {
    Target { of: "whorl", against: Against::Limit(limit), bound: Bound::AtMost(1.0) }
}

impl Target {
    /// Returns this demand on another contender.
    pub fn of(mut self, who: &'static str) -> Target {
        self.of = who;
        self
    }
}
