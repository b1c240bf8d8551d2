import asyncio

from pytest_inferforge.loadgen import tasks


def test_an_error_in_a_task_is_told_at_once_and_a_cancelled_one_is_no_error():
    async def fail():
        raise RuntimeError("broken")

    async def main():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        kept = [tasks.start(fail()), tasks.start(asyncio.sleep(9))]
        kept[1].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return told

    assert [str(error) for error in asyncio.run(main())] == ["broken"]
