//! Which flows a command means: `@all`, `@marked`, ids, or a filter.

use uuid::Uuid;

use super::{Filter, FilterError};
use crate::flow::FlowRef;

/// A choice of flows, as commands take it.
#[derive(Clone, Debug)]
pub enum Selector {
    /// `@all`: every flow.
    All,
    /// `@focus`: the flow a person looks at.
    Focus,
    /// `@shown`: flows that the view's filter lets through.
    Shown,
    /// `@hidden`: the others.
    Hidden,
    /// `@marked`: flows with a mark.
    Marked,
    /// `@unmarked`: flows without.
    Unmarked,
    /// `@ID,ID…`: flows by id.
    Ids(Vec<Uuid>),
    /// Anything else: a filter expression.
    Filter(Filter),
}

/// Where a flow stands in a view.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// A person looks at it.
    pub focused: bool,
    /// The view's filter lets it through.
    pub shown: bool,
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// An unknown `@` word, or a filter that cannot be understood.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let Some(word) = text.trim().strip_prefix('@') else {
            return Filter::parse(text).map(Selector::Filter);
        };
        Ok(match word {
            "all" => Selector::All,
            "focus" => Selector::Focus,
            "shown" => Selector::Shown,
            "hidden" => Selector::Hidden,
            "marked" => Selector::Marked,
            "unmarked" => Selector::Unmarked,
            ids => {
                let ids = ids.split(',').map(|id| Uuid::parse_str(id.trim())).collect::<Result<_, _>>();
                let reason = "neither an id nor @all, @focus, @shown, @hidden, @marked or @unmarked";
                Selector::Ids(ids.map_err(|_| FilterError::new(text, 0, reason))?)
            }
        })
    }

    /// Whether it means this flow.
    pub fn picks<'a>(&self, flow: impl Into<FlowRef<'a>>, place: Place) -> bool {
        let flow = flow.into();
        match self {
            Selector::All => true,
            Selector::Focus => place.focused,
            Selector::Shown => place.shown,
            Selector::Hidden => !place.shown,
            Selector::Marked => !flow.meta().marked.is_empty(),
            Selector::Unmarked => flow.meta().marked.is_empty(),
            Selector::Ids(ids) => ids.contains(&flow.meta().id),
            Selector::Filter(filter) => filter.matches(flow),
        }
    }
}
