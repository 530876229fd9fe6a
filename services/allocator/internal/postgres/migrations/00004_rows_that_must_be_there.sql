-- +goose Up

-- contradict_unless ends the transaction with a violated constraint when a row that was decided about is not there: its SKU
-- has the version that was compared, so nobody changed it by the rules.
-- +goose StatementBegin
CREATE FUNCTION contradict_unless(held boolean, what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT held THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = 'contradiction: ' || what;
    END IF;
END
$$;
-- +goose StatementEnd
