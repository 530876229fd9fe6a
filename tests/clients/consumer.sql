-- What the example consumers keep, in a database of their own: a packing station's notes, and how far it has handled
-- each SKU. The notes have no key that would swallow a repeat, as little as a letter has that was posted or a call that
-- was made: only the version keeps an event from being handled twice.

CREATE TABLE handled (
    sku     text PRIMARY KEY,
    version bigint NOT NULL -- the highest that was handled
);

CREATE TABLE notes (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku     text NOT NULL,
    batchref text NOT NULL,
    orderid text NOT NULL,
    units   int  NOT NULL -- to pack into the order's box; negative: to take out of it
);

-- The answers that changed nothing have no version of their own; their ce_id tells a repeat.
CREATE TABLE refusals (
    ce_id     text PRIMARY KEY,
    commandid text NOT NULL,
    reason    text NOT NULL,
    message   text NOT NULL
);
